"""Waits until a pipeline is drained, or says what is stuck in it and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from flowq.broker.records import WHOLE
from flowq.testing.expectation import shortened
from flowq.testing.journal import Call
from flowq.testing.observed_state import Waiting
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


def not_drained(
    why: str,
    waiting: Sequence[Waiting],
    *,
    running: Sequence[Call],
    paused: Mapping[str, int],
    now: datetime,
) -> NotDrained:
    """The error that names each message that is left, and what it waits for."""
    in_handlers = {(call.stage, call.message_id): call for call in running}
    lines = [_line(each, in_handlers, paused, now) for each in waiting[:_MOST_NAMED]]
    lines += [f"and {len(waiting) - _MOST_NAMED:,} more"] * (len(waiting) > _MOST_NAMED)
    early = [
        call for call in running if (call.stage, call.message_id) not in {(w.stage, w.message_id) for w in waiting}
    ]
    lines += [f"{call.stage}: its handler has not returned{_called(call, now)}, {call.message_id}" for call in early]
    counts = ", ".join(f"{n:,} in {stage}" for stage, n in Counter(each.stage for each in waiting).items())
    return NotDrained(
        f"{counts or 'the pipeline'} cannot be drained: {why}",
        detail="\n  ".join(lines),
        hint="h.waiting() lists all of them, h.calls(stage) the calls of a handler; drain(limit=...) has more patience",
    )


def _line(
    message: Waiting, in_handlers: Mapping[tuple[str, str], Call], paused: Mapping[str, int], now: datetime
) -> str:
    about = f"{message.stage}: {shortened(message.message)}, attempt {message.attempt}, {message.message_id}"
    if (call := in_handlers.get((message.stage, message.message_id))) is not None:
        return f"{about}: its handler has not returned{_called(call, now)}"
    if message.stage in paused or WHOLE in paused:
        return f"{about}: {message.stage if message.stage in paused else 'the pipeline'} is paused"
    if message.due is not None:
        return f"{about}: delayed until {message.due:%Y-%m-%d %H:%M:%S}"
    return f"{about}: {message.state}"


def _called(call: Call, now: datetime) -> str:
    return f", called {(now - call.at).total_seconds():,.0f} s ago on {call.worker}"
