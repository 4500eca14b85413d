"""One `flowq run`: opens the broker, starts the workers, and has the pipeline watched until it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowq import __version__
from flowq.broker.client.many_servers import address_of_all
from flowq.broker.embedded.other_folders import messages_elsewhere
from flowq.broker.inspection.diagnosis import refuse_old, start_up_findings, store_findings
from flowq.broker.inspection.health import ServerHealth
from flowq.broker.open import open_broker
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.cli.framework.connect import own_data
from flowq.cli.framework.invocation import as_typed
from flowq.cli.framework.logs import LogSetup
from flowq.cli.run.instructions import Instructions
from flowq.cli.run.run_metrics import serving_metrics
from flowq.cli.run.run_watch import Ends, InProcess, Watch
from flowq.cli.views.run_screen import RunAbout, Screen, choose_screen
from flowq.cli.views.run_text import orphan_words
from flowq.errors import Problem
from flowq.graph.compilation.plan import Plan
from flowq.runtime.process.ending import StopSignals
from flowq.runtime.process.slot import Duty
from flowq.runtime.process.starting import start_run
from flowq.runtime.process.supervisor import Supervisor
from flowq.runtime.run import Run, RunOptions
from flowq.settings.project import MEMORY

if TYPE_CHECKING:
    from flowq.cli.framework.loading import Loaded
    from flowq.cli.run.reloading import Reloading
    from flowq.monitoring.address import Address
    from flowq.settings import Settings


@dataclass(slots=True)
class Session:
    """What the user asked for."""

    loaded: Loaded
    settings: Settings
    stages: Sequence[str]  # empty: all of them
    shards: Sequence[int]  # empty: those that are assigned
    arguments: Mapping[str, str | list[str]]
    drains: bool
    for_seconds: float | None
    limits: Mapping[str, int]
    max_dead: int
    fresh: bool
    memory: bool
    json: bool
    quiet: bool
    metrics: Address | None = None
    log_setup: LogSetup = field(default_factory=LogSetup)
    traces: bool = False
    reloads: bool = False

    @property
    def plan(self) -> Plan:
        return self.loaded.pipeline.plan

    async def run(self) -> int:
        """Run to the end; the exit code."""
        stop = StopSignals()
        stop.install()
        options = self._options()
        options.check(self.plan)
        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(self._opening())
            warnings = [] if self.memory or self._is_embedded else await _server_warnings(broker)
            run, sources = await start_run(self.plan, broker, options, fresh=self.fresh)
            before = await run.snapshot()
            warnings += await _storage_warnings(broker, self.plan, before)
            if not self.memory:
                warnings += map(_warning, messages_elsewhere(self.settings, [self.plan]))
            screen = self._screen()
            leases = await Workers(broker).leases([info["worker"] for info in before.workers])
            others = sum(heartbeat is not None for heartbeat in leases.values())
            screen.begin(self._about(broker, run, before, others))
            for warning in warnings:
                screen.note(warning)
            if self.json:  # the report alone goes to stdout
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if self.drains and (elsewhere := [name for name in before.open_sources if not options.runs(name)]):
                screen.note(f"{', '.join(elsewhere)} has not finished and does not run here: this run waits for it")
            if self.drains and self.shards and len(self.shards) < len(broker.shards):
                screen.note("this run also waits for the other shards: other workers have to serve them")
            ends = Ends(self.drains, self.for_seconds, self.limits, self.max_dead, forgets=self.memory)
            watch = Watch(self.plan, ends, run, screen, stop, before, broker)
            if self._is_in_process:
                workers: InProcess | Supervisor = self._in_process(broker, options, sources, stack)
            else:
                workers = self._supervisor(broker, run, sources, screen)
            if self.metrics is not None:
                screen.note(await stack.enter_async_context(serving_metrics(self.metrics, self.plan, broker, workers)))
            if self.reloads and isinstance(workers, Supervisor):
                return await self._reloading(broker, run, workers, screen).until_the_end(watch)
            return await watch.until_the_end(workers)

    def _reloading(self, broker: Broker, run: Run, workers: Supervisor, screen: Screen) -> Reloading:
        from flowq.cli.run.reloading import Reloading

        job = self._instructions(broker, run, Duty(), (), screen)
        return Reloading(job, self.plan, [sys.executable, *_isolation()], workers, screen)

    @property
    def _is_in_process(self) -> bool:
        return self.settings.workers == 0 or self.memory

    def _screen(self) -> Screen:
        return choose_screen(
            self.plan,
            json=self.json,
            quiet=self.quiet,
            stdout=sys.stdout,
            stderr=sys.stderr,
            log_format=self.log_setup.format,
        )

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        settings = self.settings
        if self.memory:
            settings = replace(settings, redis=MEMORY, durability="local", claim_store=None)
        return open_broker(self.plan.name, settings, self.plan.shards)

    def _options(self) -> RunOptions:
        return RunOptions(
            stages=self.stages,
            arguments=self.arguments,
            lease_seconds=self.settings.lease_seconds,
            grace_seconds=self.settings.grace_seconds,
            drains=self.drains,
            shards=self.shards,
        )

    def _about(self, broker: Broker, run: Run, before: Snapshot, others: int) -> RunAbout:
        return RunAbout(
            pipeline=self.plan.name,
            run_id=run.id or before.run.get("id", ""),
            address=f"its own Redis in {own_data(self.settings)}"
            if self._is_embedded
            else address_of_all(broker.dialer),
            stages=tuple(self.stages),
            shards=tuple(self.shards),
            drains=self.drains,
            workers=0 if self.memory else self.settings.workers,
            resumed=run.resumed,
            others=others,
            version=__version__,
            failures=before.failures,
        )

    @property
    def _is_embedded(self) -> bool:
        return not self.memory and self.settings.is_embedded

    @property
    def _edges_read(self) -> list[str]:
        here = [stage for stage in self.plan.consumers if not self.stages or stage.name in self.stages]
        return [edge for stage in here for edge in stage.in_edges]

    def _in_process(
        self, broker: Broker, options: RunOptions, sources: Sequence[str], stack: AsyncExitStack
    ) -> InProcess:
        # Only now: the user sees what will run before it is loaded, and a supervisor runs nothing itself.
        from flowq.runtime.handlers.telemetry import Telemetry
        from flowq.runtime.process.runner import Runner

        telemetry = Telemetry(self.plan.name, traces=self.traces)
        stack.callback(telemetry.finish)
        observer = telemetry.observer
        return InProcess(
            Runner(self.plan, broker, options, sources=sources, observer=observer, child_setup=self.log_setup)
        )

    def _supervisor(self, broker: Broker, run: Run, sources: Sequence[str], screen: Screen) -> Supervisor:
        """Input that a worker had read from a pipe dies with it: its successor must not continue after a gap."""
        stdin_fds = _stdin_fds() if sources else []
        still_unread = list(stdin_fds)

        def instructions(number: int, duty: Duty) -> bytes:
            runs_sources = number == 0 and not duty.without_sources
            told = self._instructions(broker, run, duty, sources if runs_sources else (), screen)
            return replace(told, stdin_fd=still_unread.pop() if runs_sources and still_unread else None).encode()

        return Supervisor(
            broker,
            [sys.executable, *_isolation(), "-m", "flowq.cli.run.worker_process"],
            instructions,
            sources=sources,
            edges=self._edges_read,
            all_edges=[edge.name for edge in self.plan.edges],
            workers=self.settings.workers,
            grace_seconds=self.settings.grace_seconds,
            note=screen.note,
            stdout=sys.stderr if self.json else None,
            print_lines=screen.print_lines,
            inherited_fds=stdin_fds,
            awaits_restarts=self.reloads,
        )

    def _instructions(
        self, broker: Broker, run: Run, duty: Duty, sources: Sequence[str], screen: Screen
    ) -> Instructions:
        return Instructions(
            root=str(self.loaded.module.root),
            project=str(self.settings.root),
            module=self.loaded.module.name,
            attribute=self.loaded.module.attribute,
            pipeline=self.plan.name,
            redis=broker.dialer.url,
            namespace=self.settings.namespace,
            run_id=run.id,
            stages=self.stages,
            sources=[duty.only_source] if duty.only_source else sources,
            tuning=self.plan.tuning,
            shards=self.plan.shards,
            only_shards=self.shards,
            arguments=dict(self.arguments),
            lease_seconds=self.settings.lease_seconds,
            grace_seconds=self.settings.grace_seconds,
            durability=self.settings.durability,
            claim_store=None if broker.claims is None else broker.claims.location,
            own_data=str(self.settings.data_folder) if self._is_embedded else None,
            n_own_servers=self.settings.servers,
            quarantined=duty.quarantined,
            only_sources=bool(duty.only_source),
            log_format=self.log_setup.format,
            log_levels=dict(self.log_setup.levels),
            traces=self.traces,
            drains=self.drains,
            columns=None if screen.print_lines is None else shutil.get_terminal_size().columns,
        )


def _isolation() -> Sequence[str]:
    """What keeps files in the current folder, such as a queue.py, from being imported instead of Python's own."""
    is_imported_from_here = Path(__file__).resolve().parents[3] == Path.cwd()
    return () if is_imported_from_here else ("-P",)


def _stdin_fds() -> list[int]:
    """Standard input once more, for the worker that runs the sources: its own is the pipe from the supervisor."""
    try:
        return [os.dup(sys.stdin.fileno())]
    except (AttributeError, OSError, ValueError):  # closed
        return []


async def _server_warnings(broker: Broker) -> list[str]:
    """What the user should know about a Redis that flowq has not started itself.

    Raises BrokerRefused for a server that is too old, or that does not permit this user all that flowq needs.
    """
    health = await ServerHealth(broker).examine()
    refuse_old(health, broker.dialer.address)
    if health.is_primary:
        await ServerHealth(broker).refuse_without_permission()
    found = start_up_findings(health, broker.durability)
    return list(map(_warning, found))


async def _storage_warnings(broker: Broker, plan: Plan, before: Snapshot) -> list[str]:
    """What the user should know about the claim store, and about messages of earlier versions of the pipeline."""
    found = await store_findings(broker.claims) if plan.claiming and broker.claims is not None else ()
    orphans = orphan_words(plan, before)
    return [*map(_warning, found), *([orphans] if orphans else [])]


def _warning(finding: Problem) -> str:
    return as_typed(f"warning[{finding.code}]: {finding.text}  ({finding.hint})")
