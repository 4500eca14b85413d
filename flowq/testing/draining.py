"""Waits until a pipeline is drained, or says what is stuck in it and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.records import WHOLE
from flowq.durations import duration_text
from flowq.testing.expectation import shortened
from flowq.testing.journal import Call
from flowq.testing.observed_state import QUEUED, Waiting
from flowq.testing.verdicts import NotDrained

_MOST_NAMED = 10


class Progress:
    """Counts what happens, and wakes what waits for that.

    `n_events` counts the calls to Redis, `n_fruitless` those since a message last came to its end.
    """

    def __init__(self) -> None:
        self.n_events = 0
        self.n_fruitless = 0
        self._for_event: list[asyncio.Future[None]] = []
        self._for_change: list[asyncio.Future[None]] = []

    def note_event(self) -> None:
        """Anything has happened."""
        self.n_events += 1
        self.n_fruitless += 1
        _wake(self._for_event)

    def note_change(self, *, is_success: bool) -> None:
        """The pipeline may be drained since. `is_success`: a message has come to its end."""
        if is_success:
            self.n_fruitless = 0
        _wake(self._for_change)

    def next_event(self) -> asyncio.Future[None]:
        """Done as soon as anything happens."""
        return _added_to(self._for_event)

    def next_change(self) -> asyncio.Future[None]:
        """Done as soon as the pipeline may be drained."""
        return _added_to(self._for_change)


def _added_to(waiting: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    waiting.append(future)
    return future


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What messages may wait for: handlers that have not returned, keys on hold, and pauses."""

    running: Sequence[Call]
    held: Sequence[HeldKey]
    paused: Mapping[str, int]
    now: datetime

    def of(self, message: Waiting) -> str:
        """What one message waits for."""
        for call in self.running:
            if (call.stage, call.message_id) == (message.stage, message.message_id):
                return self.of_call(call)
        if message.stage in self.paused:
            return f"{message.stage} is paused"
        if WHOLE in self.paused:
            return "the pipeline is paused"
        if message.state == QUEUED:
            return f"queued for {message.key or 'its stage'}{self._hold(message)}"
        return message.state if message.due is None else f"delayed until {message.due:%Y-%m-%d %H:%M:%S}"

    def of_call(self, call: Call) -> str:
        """How long a handler has been running, and where."""
        age = duration_text((self.now - call.at).total_seconds())
        return f"its handler has not returned, called {age} ago on {call.worker}"

    def _hold(self, message: Waiting) -> str:
        for held in self.held:
            if (held.stage, held.key) == (message.stage, message.key):
                return f", held for another {duration_text(held.seconds_left)}: {held.reason}"
        return ""


def not_drained(why: str, waiting: Sequence[Waiting], obstacles: Obstacles) -> NotDrained:
    """The error that names each message that is left, and what it waits for."""
    lines = [_line(each, obstacles) for each in waiting[:_MOST_NAMED]]
    lines += [f"and {len(waiting) - _MOST_NAMED:,} more"] * (len(waiting) > _MOST_NAMED)
    left = {(each.stage, each.message_id) for each in waiting}
    settled_early = [call for call in obstacles.running if (call.stage, call.message_id) not in left]
    lines += [f"{call.stage}: {call.message_id}: {obstacles.of_call(call)}" for call in settled_early]
    counts = ", ".join(f"{n:,} in {stage}" for stage, n in Counter(each.stage for each in waiting).items())
    return NotDrained(
        f"{counts or 'the pipeline'} cannot be drained: {why}",
        detail="\n  ".join(lines),
        hint="h.waiting() lists all of them, h.calls(stage) the calls of a handler; drain(limit=...) has more patience",
    )


def _line(message: Waiting, obstacles: Obstacles) -> str:
    about = f"{message.stage}: {shortened(message.message)}, attempt {message.attempt}, {message.message_id}"
    return f"{about}: {obstacles.of(message)}"
