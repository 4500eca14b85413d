"""One `flowq run`: opens the broker, starts the workers, watches the pipeline, and ends with its balance."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowq import __version__
from flowq.broker.balance import balance_of
from flowq.broker.calls import insist
from flowq.broker.open import MEMORY, open_broker
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.cli.run import exit_code_of_signals
from flowq.cli.run_log import LogScreen
from flowq.cli.run_metrics import serving_metrics
from flowq.cli.run_screen import RunAbout, Screen, choose_screen
from flowq.cli.run_start import warnings_at_start
from flowq.cli.run_text import pause_words, settled
from flowq.cli.stdout import forgiving_stdout
from flowq.cli.table import console_for
from flowq.cli.worker import Instructions
from flowq.errors import FlowqError
from flowq.graph.plan import Plan
from flowq.runtime.certificates import certify_lost_neighbours
from flowq.runtime.run import Run, RunOptions, poll_seconds
from flowq.runtime.runner import Runner, first_to_end
from flowq.runtime.source_arguments import reject_unknown_arguments, source_arguments
from flowq.runtime.supervisor import Supervisor
from flowq.runtime.telemetry import Telemetry
from flowq.runtime.worker import StopSignals

if TYPE_CHECKING:
    from flowq.cli.loading import Loaded
    from flowq.monitoring.address import Address
    from flowq.settings import Settings

EXIT_DEAD_LETTERS, EXIT_NOT_DRAINED = 3, 5
_LOOK_SECONDS = 0.5
_IDLE_LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Session:
    """What the user asked for."""

    loaded: Loaded
    settings: Settings
    stages: Sequence[str]  # empty: all of them
    arguments: Mapping[str, str]
    drains: bool
    for_seconds: float | None
    limits: Mapping[str, int]
    max_dead: int
    fresh: bool
    memory: bool
    json: bool
    quiet: bool
    metrics: Address | None = None
    log_format: str = "text"
    traces: bool = False

    @property
    def plan(self) -> Plan:
        return self.loaded.pipeline.plan

    async def run(self) -> int:
        """Run to the end; the exit code."""
        stop = StopSignals()
        stop.install()
        options = self._options()
        self._check_arguments()
        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(self._opening())
            warnings = await warnings_at_start(broker, self.plan, is_own=self.memory or self._is_embedded)
            run, sources = Run(self.plan, broker), []
            if self._runs_sources or self.fresh:
                sources = await run.begin(options, fresh=self.fresh)
            before = await run.snapshot()
            run.join(before)
            screen = self._screen()
            screen.begin(self._about(broker, run, before))
            for warning in warnings:
                screen.note(warning)
            if self.json:  # what handlers print is not our data
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            elif self._is_in_process:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(forgiving_stdout())))
            watch = Watch(self, run, screen, stop, before)
            await certify_lost_neighbours(broker)
            if self._is_in_process:
                telemetry = Telemetry(self.plan.name, logs=self.log_format == "json", traces=self.traces)
                stack.callback(telemetry.finish)
                runner = Runner(self.plan, broker, options, sources=sources, observer=telemetry.observer)
                workers: InProcess | Supervisor = InProcess(runner)
            else:
                workers = self._supervisor(broker, run, sources, screen)
            if self.metrics is not None:
                screen.note(await stack.enter_async_context(serving_metrics(self.metrics, self.plan, broker, workers)))
            return await watch.until_the_end(workers)

    @property
    def _is_in_process(self) -> bool:
        return self.settings.workers == 0 or self.memory

    def _screen(self) -> Screen:
        if self.log_format == "json" and not self.json:
            return LogScreen(self.plan, console_for(sys.stderr), quiet=self.quiet)
        return choose_screen(self.plan, json=self.json, quiet=self.quiet, stdout=sys.stdout, stderr=sys.stderr)

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        settings = self.settings
        if self.memory:
            return open_broker(self.plan.name, redis=MEMORY, namespace=settings.namespace)
        return open_broker(
            self.plan.name, redis=settings.redis, namespace=settings.namespace, durability=settings.durability
        )

    @property
    def _runs_sources(self) -> bool:
        return any(not self.stages or source.name in self.stages for source in self.plan.sources)

    def _options(self) -> RunOptions:
        return RunOptions(
            stages=self.stages,
            arguments=self.arguments,
            lease_seconds=self.settings.lease_seconds,
            grace_seconds=self.settings.grace_seconds,
        )

    def _check_arguments(self) -> None:
        reject_unknown_arguments(self.plan, self.arguments)
        for source in self.plan.sources:
            if not self.stages or source.name in self.stages:
                source_arguments(source, self.arguments)

    def _about(self, broker: Broker, run: Run, before: Snapshot) -> RunAbout:
        return RunAbout(
            pipeline=self.plan.name,
            run_id=run.id or before.run.get("id", ""),
            address=self._address(broker),
            stages=tuple(self.stages),
            drains=self.drains,
            workers=0 if self.memory else self.settings.workers,
            goes_on=run.goes_on,
            version=__version__,
        )

    def _address(self, broker: Broker) -> str:
        return "its own Redis in .flowq/" if self._is_embedded else broker.dialer.address

    @property
    def _is_embedded(self) -> bool:
        return not self.memory and self.settings.redis is None

    @property
    def _edges_read(self) -> list[str]:
        here = [stage for stage in self.plan.consumers if not self.stages or stage.name in self.stages]
        return [edge for stage in here for edge in stage.in_edges]

    def _supervisor(self, broker: Broker, run: Run, sources: Sequence[str], screen: Screen) -> Supervisor:
        stdin_fds = _stdin_fds() if sources else []
        still_unread = list(stdin_fds)

        def instructions(number: int, quarantined: bool) -> bytes:
            # What a worker had read from a pipe dies with it: its successor must not go on behind a gap.
            is_reader = number == 0 and not quarantined and bool(still_unread)
            return Instructions(
                root=str(self.loaded.root),
                module=self.loaded.module,
                attribute=self.loaded.attribute,
                pipeline=self.plan.name,
                redis=broker.dialer.url,
                namespace=self.settings.namespace,
                run_id=run.id,
                stages=self.stages,
                sources=sources if number == 0 else (),
                tuning=self.plan.tuning,
                arguments=dict(self.arguments),
                lease_seconds=self.settings.lease_seconds,
                grace_seconds=self.settings.grace_seconds,
                durability=self.settings.durability,
                embedded=self._is_embedded,
                quarantined=quarantined,
                stdin_fd=still_unread.pop() if is_reader else None,
                log_format=self.log_format,
                traces=self.traces,
            ).encode()

        return Supervisor(
            broker,
            [sys.executable, "-m", "flowq.cli.worker"],
            instructions,
            edges=self._edges_read,
            all_edges=[edge.name for edge in self.plan.edges],
            workers=self.settings.workers,
            grace_seconds=self.settings.grace_seconds,
            note=screen.note,
            stdout=sys.stderr if self.json else None,
            inherited_fds=stdin_fds,
        )


def _stdin_fds() -> list[int]:
    """Standard input once more, for the worker that runs the sources: its own is the pipe from the supervisor."""
    try:
        return [os.dup(sys.stdin.fileno())]
    except (AttributeError, OSError, ValueError):  # closed
        return []


class InProcess:
    """Runs the stages in this very process, for a debugger and for `--memory`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.failed = runner.ended

    @property
    def pids(self) -> list[int]:
        """This process."""
        return [os.getpid()]

    async def start(self) -> None:
        await self._runner.start()

    async def stop(self, hurry: asyncio.Event) -> None:
        await self._runner.stop(hurry)


class Watch:
    """Follows a run on the screen and decides when it is over."""

    def __init__(self, session: Session, run: Run, screen: Screen, stop: StopSignals, before: Snapshot) -> None:
        self._session = session
        self._run = run
        self._screen = screen
        self._stop = stop
        self._before = balance_of(session.plan, before)
        self._dead_before = sum(balance.dead for balance in self._before.values())
        self._told_pauses = ""
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()

    async def until_the_end(self, workers: Supervisor | InProcess) -> int:
        """Start the workers, stop them when the run is over, and show how it ended."""
        why = "failed"
        try:
            await workers.start()
            why = await self._watch(workers)
        finally:
            if self._stop.requested.is_set():
                self._screen.note("stopping: finishing what runs", hint="Ctrl-C again: hand it back")
            await self._stop_while_watching(workers)
            self._screen.close()
        if workers.failed.done():
            error = workers.failed.exception()
            if error is not None:
                raise error
            return 1
        snapshot = await self._last_look()
        if snapshot is None:
            self._screen.note("Redis does not answer: what was running will be run again")
            return exit_code_of_signals(self._stop.received)
        summary = self._run.summary(snapshot, self._loop.time() - self._started_at)
        self._screen.end(summary, dead_before=self._dead_before, stopped=why != "drained")
        return self._exit_code(why, summary.dead - self._dead_before)

    async def _stop_while_watching(self, workers: Supervisor | InProcess) -> None:
        stopping = asyncio.ensure_future(workers.stop(self._stop.hurry))
        while not stopping.done():
            with contextlib.suppress(FlowqError, TimeoutError):  # Redis may be what makes us stop
                async with asyncio.timeout(_LOOK_SECONDS):
                    self._screen.update(await self._run.snapshot())
            await asyncio.wait([stopping], timeout=poll_seconds(0))
        await stopping

    async def _last_look(self) -> Snapshot | None:
        """How it ended; None when the user has stopped the run and Redis does not tell."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS if self._stop.requested.is_set() else None):
                return await insist(self._run.snapshot, what="reading the balance")
        except TimeoutError:
            return None

    async def _watch(self, workers: Supervisor | InProcess) -> str:
        """Why the run is over."""
        while True:
            looking = asyncio.ensure_future(insist(self._run.snapshot, what="watching the pipeline"))
            await first_to_end(looking, self._stop.requested.wait())
            if not looking.done():
                return "stopped"
            snapshot = looking.result()
            self._screen.update(snapshot)
            self._tell_pauses(snapshot)
            if workers.failed.done():
                return "failed"
            if self._session.drains and snapshot.is_drained:
                return "drained"
            if self._limit_reached(snapshot):
                return "limit"
            passed = self._loop.time() - self._started_at
            if self._session.for_seconds is not None and passed >= self._session.for_seconds:
                return "time"
            try:
                async with asyncio.timeout(self._pause_seconds(snapshot, passed)):
                    await self._stop.requested.wait()
                return "stopped"
            except TimeoutError:
                pass

    def _tell_pauses(self, snapshot: Snapshot) -> None:
        """Say when something is paused, or goes on: the run waits for it."""
        words = pause_words(self._session.plan, snapshot)
        if words != self._told_pauses:
            self._told_pauses = words
            self._screen.note(words or "nothing is paused any more")

    def _pause_seconds(self, snapshot: Snapshot, passed: float) -> float:
        """Until the next look. A pipeline that waits for messages costs next to nothing."""
        waits = not self._session.drains and not snapshot.outstanding
        pause = _IDLE_LOOK_SECONDS if waits else poll_seconds(snapshot.outstanding)
        for_seconds = self._session.for_seconds
        return pause if for_seconds is None else min(pause, max(0.0, for_seconds - passed))

    def _limit_reached(self, snapshot: Snapshot) -> bool:
        balances = balance_of(self._session.plan, snapshot)
        return any(
            settled(balances[stage]) - settled(self._before[stage]) >= limit
            for stage, limit in self._session.limits.items()
        )

    def _exit_code(self, why: str, new_dead: int) -> int:
        if why == "stopped":
            return exit_code_of_signals(self._stop.received)
        if why == "time" and self._session.drains:
            return EXIT_NOT_DRAINED
        return EXIT_DEAD_LETTERS if new_dead > self._session.max_dead else 0
