"""Follows a run: shows it on the screen, decides when it is over, and what the command exits with."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.records import Snapshot
from flowq.broker.runs import balance_of
from flowq.cli.views.run_progress import Pacer
from flowq.cli.views.run_text import pause_words, settled
from flowq.errors import BrokerUnavailable, FlowqError
from flowq.graph.compilation.plan import Plan
from flowq.runtime.process.ending import StopSignals
from flowq.runtime.process.gc_tuning import tune_gc
from flowq.runtime.process.supervisor import Supervisor
from flowq.runtime.resources import ResourceFailed
from flowq.runtime.run import Run, poll_seconds
from flowq.runtime.waiting import first_to_end

if TYPE_CHECKING:
    from flowq.broker.inspection.overview import Overview
    from flowq.broker.redis_streams import Broker
    from flowq.cli.views.run_screen import Screen
    from flowq.dead_letters.source_rejects import SourceRejects
    from flowq.runtime.process.runner import Runner

EXIT_DEAD_LETTERS, EXIT_NOT_DRAINED = 3, 5
_LOOK_SECONDS = 0.5
_IDLE_LOOK_SECONDS = 1.0
_LONGEST_LOOK_SECONDS = 5.0
_OVERVIEW_MS = 1000
_MOST_GROUPS = 5


class InProcess:
    """Runs the stages in this process, for a debugger and for `--memory`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.failed = runner.ended
        self.unclosed: ResourceFailed | None = None

    @property
    def pids(self) -> list[int]:
        return [os.getpid()]

    async def start(self) -> None:
        await self._runner.start()
        tune_gc()

    async def stop(self, hurry: asyncio.Event) -> None:
        try:
            await self._runner.stop(hurry)
        except ResourceFailed as error:  # shown after the balance
            self.unclosed = error


@dataclass(frozen=True, slots=True)
class Ends:
    """When a run is over, and what it may leave behind."""

    drains: bool
    for_seconds: float | None
    limits: Mapping[str, int]
    max_dead: int
    forgets: bool  # in memory: what died cannot be looked at later


class Watch:
    """Follows a run on the screen and decides when it is over."""

    def __init__(
        self,
        plan: Plan,
        ends: Ends,
        run: Run,
        screen: Screen,
        stop: StopSignals,
        before: Snapshot,
        broker: Broker,
    ) -> None:
        self._broker = broker
        self._plan, self._ends = plan, ends
        self._run = run
        self._screen = screen
        self._stop = stop
        self._before = balance_of(plan, before)
        self._began_ms = before.now_ms
        self._dead_before = sum(balance.dead for balance in self._before.values())
        self._shown_pauses = ""
        self._overview: Overview | None = None
        self._overview_pace = Pacer(_OVERVIEW_MS)
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
                self._screen.note("stopping: finishing running messages", hint="Ctrl-C again: hand them back")
            await self._stop_while_watching(workers)
            self._screen.close()
        if workers.failed.done():
            error = workers.failed.exception()
            if error is not None:
                raise error
            return 1
        snapshot = await self._last_look()
        if snapshot is None:
            self._screen.note("Redis does not answer: running messages will run again")
            return self._stop.exit_code
        summary = self._run.summary(snapshot, self._loop.time() - self._started_at)
        if summary.dead > self._dead_before:
            if self._ends.forgets:
                await self._tell_of_the_dead()
            summary = replace(summary, rejects=await self._rejects())
        self._screen.end(summary, dead_before=self._dead_before, stopped=why != "drained")
        if isinstance(workers, Supervisor):
            if workers.has_reported:
                return 1
        elif workers.unclosed is not None:
            raise workers.unclosed
        return self._exit_code(why, summary.dead - self._dead_before)

    async def _stop_while_watching(self, workers: Supervisor | InProcess) -> None:
        stopping, has_hurried = asyncio.ensure_future(workers.stop(self._stop.hurry)), False
        self._screen.stopping()
        while not stopping.done():
            if self._stop.hurry.is_set() and not has_hurried:
                has_hurried = True
                self._screen.note("handing back running messages", hint="waiting for the workers to end")
            with contextlib.suppress(FlowqError, TimeoutError):  # Redis may be what makes us stop
                async with asyncio.timeout(_LOOK_SECONDS):
                    self._screen.update(await self._run.snapshot(), self._overview)
            await asyncio.wait([stopping], timeout=poll_seconds(0))
        await stopping

    async def _tell_of_the_dead(self) -> None:
        """Show the dead letters, which cannot be inspected later."""
        from flowq.dead_letters.dead_letters import DeadLetters  # few runs need them, and all would wait for them

        groups = await DeadLetters(self._plan, self._broker).groups()
        for group in groups[:_MOST_GROUPS]:
            self._screen.note(f"dead  {group.count:,}×  {group.stage}  {group.error}")
        if len(groups) > _MOST_GROUPS:
            self._screen.note(f"and {len(groups) - _MOST_GROUPS:,} other errors")

    async def _rejects(self) -> SourceRejects | None:
        from flowq.dead_letters.source_rejects import rejects_since

        with contextlib.suppress(FlowqError, TimeoutError):  # the end is shown without them
            async with asyncio.timeout(_LONGEST_LOOK_SECONDS):
                return await rejects_since(self._plan, self._broker, self._began_ms)
        return None

    async def _last_look(self) -> Snapshot | None:
        """The last snapshot; None when the user has stopped the run and Redis does not answer."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS if self._stop.requested.is_set() else None):
                return await retry_until_available(self._run.world, self._run.snapshot, what="reading the balance")
        except TimeoutError:
            return None

    async def _watch(self, workers: Supervisor | InProcess) -> str:
        """Why the run is over."""
        while True:
            looking = asyncio.ensure_future(
                retry_until_available(self._run.world, self._look, what="watching the pipeline")
            )
            await first_to_end(looking, self._stop.requested.wait())
            if not looking.done():
                return "stopped"
            snapshot = looking.result()
            self._screen.update(snapshot, self._overview)
            self._tell_pauses(snapshot)
            if workers.failed.done():
                return "failed"
            if self._ends.drains:
                self._run.refuse_if_lost(snapshot)
                if await self._is_drained(snapshot):
                    return "drained"
            if self._limit_reached(snapshot):
                return "limit"
            passed = self._loop.time() - self._started_at
            if self._ends.for_seconds is not None and passed >= self._ends.for_seconds:
                return "time"
            try:
                async with asyncio.timeout(self._pause_seconds(snapshot, passed)):
                    await self._stop.requested.wait()
                return "stopped"
            except TimeoutError:
                pass

    async def _is_drained(self, snapshot: Snapshot) -> bool:
        """Whether it is drained; not while a shard that says so falls silent before it is certain."""
        with contextlib.suppress(BrokerUnavailable):
            return await self._run.is_drained(snapshot)
        return False

    async def _look(self) -> Snapshot:
        snapshot = await self._run.snapshot()
        if self._screen.wants_overview and self._overview_pace.is_due(snapshot.now_ms):
            from flowq.broker.inspection.merging.overviews import overview_of  # lines in a log do not need it

            self._overview = await overview_of(self._broker, self._plan, before=self._overview)
        return snapshot

    def _tell_pauses(self, snapshot: Snapshot) -> None:
        """Say when something is paused or resumed: the run waits for it."""
        words = pause_words(self._plan, snapshot)
        if words != self._shown_pauses:
            self._shown_pauses = words
            self._screen.note(words or "nothing is paused now")

    def _pause_seconds(self, snapshot: Snapshot, passed: float) -> float:
        """Until the next look. A pipeline that waits for messages costs next to nothing."""
        waits = not self._ends.drains and not snapshot.outstanding
        pause = _IDLE_LOOK_SECONDS if waits else poll_seconds(snapshot.outstanding)
        for_seconds = self._ends.for_seconds
        return pause if for_seconds is None else min(pause, max(0.0, for_seconds - passed))

    def _limit_reached(self, snapshot: Snapshot) -> bool:
        balances = balance_of(self._plan, snapshot)
        return any(
            settled(balances[stage]) - settled(self._before[stage]) >= limit
            for stage, limit in self._ends.limits.items()
        )

    def _exit_code(self, why: str, new_dead: int) -> int:
        if why == "stopped":
            return self._stop.exit_code
        if why == "time" and self._ends.drains:
            return EXIT_NOT_DRAINED
        return EXIT_DEAD_LETTERS if new_dead > self._ends.max_dead else 0
