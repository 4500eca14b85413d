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
    """Counts what the server does, and wakes whoever waits for a change.

    `n_decisions` counts all calls, `n_fruitless` those since a message was last settled for good.
    """

    def __init__(self) -> None:
        self.n_decisions = 0
        self.n_fruitless = 0
        self._waiting: list[asyncio.Future[None]] = []

    def note(self, *, is_change: bool, is_success: bool) -> None:
        """The server has answered a call. `is_change`: the pipeline may be drained since."""
        self.n_decisions += 1
        self.n_fruitless = 0 if is_success else self.n_fruitless + 1
        if is_change:
            self.wake()

    def wake(self) -> None:
        """Let those that wait look again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next_change(self) -> asyncio.Future[None]:
        """Done as soon as something has changed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future


def not_drained(
    why: str,
    waiting: Sequence[Waiting],
    *,
    running: Sequence[Call],
    paused: Mapping[str, int],
    open_sources: Sequence[str],
    now: datetime,
) -> NotDrained:
    """The error that names each message that is left, and what it waits for."""
    in_handlers = {(call.stage, call.message_id): call for call in running}
    lines = [_line(each, in_handlers, paused, now) for each in waiting[:_MOST_NAMED]]
    lines += [f"and {len(waiting) - _MOST_NAMED:,} more"] * (len(waiting) > _MOST_NAMED)
    lines += [f"source {source}: has not finished" for source in open_sources]
    early = [
        call for call in running if (call.stage, call.message_id) not in {(w.stage, w.message_id) for w in waiting}
    ]
    lines += [f"{call.stage}: its handler has not returned{_called(call, now)}, {call.message_id}" for call in early]
    counts = ", ".join(f"{n:,} in {stage}" for stage, n in Counter(each.stage for each in waiting).items())
    return NotDrained(
        f"{counts or 'the pipeline'} cannot be drained: {why}",
        detail="\n  ".join(lines),
        hint="h.waiting() lists all of them, h.calls(stage) the calls of a handler",
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
