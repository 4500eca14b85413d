"""Tries one case: runs a pipeline under its schedule and faults, and remembers how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.testing.exploration.case import Case
from flowq.testing.exploration.fault_words import happening
from flowq.testing.exploration.shrinking import shrink
from flowq.testing.exploration.story import Moment, Story, tell
from flowq.testing.faults import Fault
from flowq.testing.journal import Call
from flowq.testing.pipeline_harness import harness
from flowq.testing.simulation.trace import Event


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one case went."""

    case: Case
    error: BaseException | None
    calls: Sequence[Call]
    settlements: Sequence[Event]
    strikes: Sequence[Event]  # of faults

    @property
    def fired(self) -> Sequence[Fault]:
        """The faults that have struck, in order."""
        by_code = {str(fault): fault for fault in self.case.faults}
        return [by_code[event.detail] for event in self.strikes]

    def story(self, harness: str, start: datetime) -> Story:
        """How it failed."""
        assert self.error is not None
        # At the same time, a worker settles what it settles first, calls the handler, and is hit by a fault in there.
        moments = [*self._settlements_told(), *self._calls_told(start), *self._faults_told()]
        return tell(self.case, moments, self.error, harness)

    def _calls_told(self, start: datetime) -> Iterator[Moment]:
        for call in self.calls:
            messages = ((call.stage, call.message_id),)
            yield Moment((call.at - start).total_seconds(), call.worker, messages=messages, call=call)

    def _settlements_told(self) -> Iterator[Moment]:
        for event in self.settlements:
            messages = tuple((event.stage, message) for message in event.messages)
            yield Moment(event.at_seconds, event.worker, f"settles {event.stage}: {event.detail}", messages)

    def _faults_told(self) -> Iterator[Moment]:
        for event, fault in zip(self.strikes, self.fired, strict=True):
            yield Moment(event.at_seconds, event.worker, happening(fault))

    def is_as(self, other: Attempt) -> bool:
        """Whether both failed at the same place: shrinking must not lead from one failure to another."""
        return self.error is not None and other.error is not None and _place(self.error) == _place(other.error)


@dataclass(frozen=True, slots=True)
class Trial:
    """A pipeline, and how each case of it is tried.

    `start`: what the virtual clock shows at first. `redis`: the URL of a server; otherwise a fake one.
    """

    pipeline: Pipeline
    build: Callable[..., Awaitable[None]]
    resources: Callable[[], Mapping[Resource[Any], Any]]
    start: datetime
    redis: str | None = None

    async def attempt(self, case: Case) -> Attempt:
        """Try one case. Raises what the harness raises for a pipeline that it cannot run."""
        h = harness(
            self.pipeline,
            seed=case.seed,
            faults=case.faults,
            workers=case.workers,
            resources=self.resources(),
            redis=self.redis,
            start=self.start,
        )
        error: BaseException | None = None
        is_open = False
        try:
            async with h:
                is_open = True
                await (self.build(h) if case.size is None else self.build(h, case.size))
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
            raise
        except BaseException as failed:  # pytest.fail() raises no Exception
            if not is_open:
                raise
            error = failed
        await asyncio.sleep(0)  # a harness gives the loop of the test no turn, so that this alone notices a Ctrl-C
        calls = [call for stage in self.pipeline.plan.consumers for call in h.calls(stage.name)]
        settlements = [event for event in h.trace.of("settle") if event.messages]
        return Attempt(case, error, calls, settlements, h.trace.of("fault", "crash"))

    async def shrunk(self, failed: Attempt) -> Attempt:
        """The attempt of the simplest case found that fails as this one."""
        latest = failed

        async def fails(case: Case) -> bool:
            nonlocal latest
            attempt = await self.attempt(case)
            if not attempt.is_as(failed):
                return False
            latest = attempt
            return True

        await shrink(failed.case, fails)
        return latest


def _place(error: BaseException) -> tuple[type[BaseException], str, int]:
    """The type of an error, and the file and line that raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error), "", 0
    return type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
