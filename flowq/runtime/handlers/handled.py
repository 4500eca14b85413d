"""What is being handled: found in a call stack when a line is logged or the loop hangs, at no cost per message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple

from flowq.delivery.edge import Edge
from flowq.delivery.message import Delivery, Row
from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.handlers.calling import run_in_thread
from flowq.runtime.handlers.handling import Handling

AT_WORK: ContextVar[Callable[[], Sequence[Row]]] = ContextVar("flowq_at_work", default=tuple[Row])
"""Set once for each slot: the deliveries that it is running, for tasks that a handler has started."""


class Handled(NamedTuple):
    """A call of a handler: its stage, and its message; for a batch its first message and their number."""

    stage: str
    delivery: Delivery
    n_messages: int
    is_async: bool

    def as_json(self) -> dict[str, Any]:
        """The fields that log lines carry."""
        header = self.delivery.header
        about = {"stage": self.stage, "message_id": header.message_id, "attempt": header.attempt}
        return about if self.n_messages == 1 else {**about, "batch": self.n_messages}


def handled_here() -> Handled | None:
    """What the caller is a part of."""
    return handled_in(sys._getframe()) or handled_by(AT_WORK.get())  # pyright: ignore[reportPrivateUsage]


def handled_in(frame: FrameType | None) -> Handled | None:
    """The innermost call of a handler in a stack, which may be that of another thread."""
    while frame is not None:
        if frame.f_code is _IN_LOOP:
            found = frame.f_locals
            return _handled(found["self"].stage, found["row"], found["message"])
        if frame.f_code is _IN_THREAD:
            found = frame.f_locals
            return _handled(found["stage"], *found["given"][:2])
        frame = frame.f_back
    return None


def handled_by(at_work: Callable[[], Sequence[Row]]) -> Handled | None:
    """What a slot is running: for a task that a handler has started, whose stack does not show the handler."""
    rows = at_work()
    if not rows:
        return None
    first = Delivery(*rows[0])
    return Handled(Edge.parse(first.edge).target, first, len(rows), is_async=True)


def _handled(stage: StagePlan, row: Row, message: Any) -> Handled:
    return Handled(stage.name, Delivery(*row), len(message) if stage.batch else 1, stage.handler.shape.is_async)


_IN_LOOP, _IN_THREAD = Handling.handle_message.__code__, run_in_thread.__code__
