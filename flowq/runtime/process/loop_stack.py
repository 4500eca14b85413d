"""What a loop is busy with, from the call stack of its thread: whose code, and at which line of the user's."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Sequence
from contextvars import Context
from types import CodeType, FrameType
from typing import NamedTuple

from flowq.delivery.message import Row
from flowq.delivery.user_code import is_users, place_of_lines
from flowq.errors import Place
from flowq.runtime.handlers.handled import AT_WORK, Handled, handled_by, handled_in
from flowq.runtime.handlers.places import project_root
from flowq.runtime.resources import Resources
from flowq.runtime.sources.source_feed import AsyncFeed

_OF_ASYNC = "write `def` instead of `async def`: it then runs in a thread; or set process=True"
_OF_INLINE = "remove inline=True: it then runs in a thread; or set process=True"
_OF_SOURCE = "write it with `def`: it then runs in a thread"
_OF_OTHERS = "call slow code with `await asyncio.to_thread(...)`"


class Step(NamedTuple):
    """One frame: which call it is, as far as that can be known, its code, and its line."""

    call: int
    code: CodeType
    line: int


class Busy(NamedTuple):
    """What a loop is busy with. `who` names it, `handled` is the message, if it is a handler."""

    steps: Sequence[Step]
    who: str
    remedy: str
    handled: Handled | None

    @property
    def call(self) -> tuple[int, CodeType | None, bytes]:
        """What identifies a call. A frame is not enough: the frame of the next call may have the same address."""
        entry_id = self.handled.delivery.entry_id if self.handled else b""
        return (self.steps[0].call, self.steps[0].code, entry_id) if self.steps else (0, None, entry_id)

    def place(self, steps: Sequence[Step]) -> Place | None:
        """The user's line among some of its steps. Code of a library alone is no reason to blame the user."""
        if not self.who and not any(is_users(step.code.co_filename) for step in steps):
            return None
        return place_of_lines([(step.code, step.line) for step in steps], project_root())


def depth_of_loop() -> int:
    """How many frames of the current stack are below the tasks of the running loop. Call it in a task."""
    frames = list(_frames(sys._getframe()))  # pyright: ignore[reportPrivateUsage]
    is_task = [bool(frame.f_code.co_flags & inspect.CO_COROUTINE) for frame in frames]
    return is_task.index(True)


def busy_with(frame: FrameType, depth: int, loop: asyncio.AbstractEventLoop) -> Busy:
    """What the loop does whose thread is at this frame."""
    frames = list(_frames(frame))[depth:]
    steps = [Step(id(each), each.f_code, each.f_lineno) for each in frames]
    handled = handled_in(frame) or handled_by(_at_work_in(loop))
    if handled is not None:
        return Busy(steps, handled.stage, _OF_ASYNC if handled.is_async else _OF_INLINE, handled)
    for each in reversed(frames):
        if each.f_code is AsyncFeed.CALLS_USERS_CODE:
            return Busy(steps, f"source {each.f_locals['self'].name}", _OF_SOURCE, None)
        if each.f_code in Resources.CALLS_USERS_CODE:
            return Busy(steps, f"resource {each.f_locals['resource'].name}", _OF_OTHERS, None)
    return Busy(steps, "", _OF_OTHERS, None)


def in_common(samples: Sequence[Sequence[Step]]) -> Sequence[Step]:
    """The last of some stacks, without the calls that came and went meanwhile."""
    *earlier, last = samples
    n = len(last)
    for steps in earlier:
        same = (a.call == b.call and a.code is b.code for a, b in zip(steps, last, strict=False))
        n = min(n, next((i for i, is_same in enumerate(same) if not is_same), min(len(steps), len(last))))
    return last[:n]


def _frames(frame: FrameType | None) -> Sequence[FrameType]:
    """The stack of a frame, the outermost first."""
    found: list[FrameType] = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found[::-1]


def _at_work_in(loop: asyncio.AbstractEventLoop) -> Callable[[], Sequence[Row]]:
    """What the slot runs that the current task of a loop belongs to: unknown before Python 3.12."""
    task = asyncio.current_task(loop)
    context: Context | None = getattr(task, "get_context", lambda: None)()
    return tuple if context is None else context.get(AT_WORK, tuple)
