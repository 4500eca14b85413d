"""Frees everything that a handler held when it failed."""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Iterator
from types import FrameType, TracebackType

from flowq.delivery.error_groups import members_of
from flowq.delivery.settlement import Outcome

_MAY_BE_SUSPENDED = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def clear_frames_of(outcome: Outcome) -> None:
    """Clear the frames of the error of an outcome, if it has one."""
    if (error := getattr(outcome, "error", None)) is not None:
        clear_frames(error)


def clear_frames(error: BaseException) -> None:
    """Clear the locals in all frames that an error, its causes and its contexts passed through.

    A handler that keeps an error in a local variable makes a cycle of error, traceback and frame, which keeps its
    message and other locals alive until the garbage collector runs. The text of the traceback stays the same.
    """
    for each in _all_of(error):
        trace = each.__traceback__
        while trace is not None:
            _clear(trace)
            trace = trace.tb_next


def _all_of(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes and contexts, and the members of groups, each once: chains may be long, or cyclic."""
    to_do: list[BaseException | None] = [error]
    seen: set[int] = set()
    while to_do:
        each = to_do.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        to_do += (each.__cause__, each.__context__)
        to_do += members_of(each)


def _clear(trace: TracebackType) -> None:
    if not _is_suspended(trace.tb_frame):
        with contextlib.suppress(RuntimeError):  # it is executing
            trace.tb_frame.clear()


def _is_suspended(frame: FrameType) -> bool:
    """Whether a coroutine or generator will resume in this frame: it may have caught an error that is shared.

    Up to Python 3.12, clearing its frame would end it. Only a frame that has ended refers to its code by itself.
    """
    if not frame.f_code.co_flags & _MAY_BE_SUSPENDED:
        return False
    return not any(owned is frame.f_code for owned in gc.get_referents(frame))
