"""Makes errors that can travel to another process: of the same class, or else of the nearest class that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar, cast

from flowq.delivery.dead_letter import error_line
from flowq.delivery.error_groups import members_of
from flowq.errors import Reject, RetryLater

T = TypeVar("T")


class ErrorInProcess(Exception):
    """Stands for an error whose class does not exist outside the process in which it was raised."""


class Portable:
    """An error on its way. It is made again without calling its class, whose arguments may be quite others."""

    def __init__(self, error: BaseException) -> None:
        kind = type(error)
        while not _travels(kind):
            kind = cast("type[BaseException]", kind.__base__)
        if kind in (BaseException, Exception):
            kind = ErrorInProcess
        is_same = kind is type(error)
        self.kind = kind
        self.arguments = tuple(_travelling(value) for value in error.args) if is_same else (error_line(error),)
        self.state = {name: value for name, value in vars(error).items() if _travels(value)}
        if isinstance(error, Reject | RetryLater):
            self.state["reason"] = error.reason if is_same else error_line(error)
        self.members = [Portable(each) for each in members_of(error)]

    def unpacked(self) -> BaseException:
        """The error, as far as it could travel."""
        arguments = (self.arguments[0], [each.unpacked() for each in self.members]) if self.members else self.arguments
        error = self.kind.__new__(self.kind, *arguments)
        vars(error).update(self.state)
        return error


def portable(error: BaseException) -> BaseException | Portable:
    """The error itself, if a copy of it is the same error, else what can be unpacked into one."""
    try:
        copied = _copied(error)
    except Exception:  # noqa: BLE001  (whatever an error class of the user's does when it is copied)
        return Portable(error)
    same = type(copied) is type(error) and error_line(copied) == error_line(error) and _state(copied) == _state(error)
    return error if same else Portable(error)


def _state(error: BaseException) -> Mapping[str, str]:
    return {name: repr(value) for name, value in vars(error).items()}


def _travelling(value: object) -> object:
    return value if _travels(value) else repr(value)


def _travels(value: object) -> bool:
    try:
        _copied(value)
    except Exception:  # noqa: BLE001  (whatever a class of the user's does when it is copied)
        return False
    return True


def _copied(value: T) -> T:
    load = cast("Callable[[Any], T]", ForkingPickler.loads)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return load(ForkingPickler.dumps(value))
