"""Gives each message its own context: no other message sees a ContextVar that its handler sets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def is_unchanged(since: Context) -> bool:
    """Whether the current context still equals this copy. That is cheap: both share their data until one changes."""
    try:
        return copy_context() == since
    except Exception:  # noqa: BLE001  (values may fail to compare)
        return False


def in_context(
    context: Context, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, T]:
    """Call a coroutine function, and run every step of its coroutine, in a context."""
    return cast("Coroutine[Any, Any, T]", _steps(context, context.run(function, *args, **kwargs)))


@coroutine
def _steps(context: Context, inner: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    step, send = context.run, inner.send
    try:
        awaited = step(send, None)
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001  (cancellation too is thrown into the coroutine)
                awaited = step(inner.throw, error)
            else:
                awaited = step(send, sent)
    except StopIteration as finished:
        value: T = finished.value
        return value
