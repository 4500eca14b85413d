"""What a dead letter records beside the original bytes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowq.delivery.error_groups import leaves_of
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import DeadLetter
from flowq.delivery.stored import text_in
from flowq.delivery.user_code import FLOWQ
from flowq.errors import FlowqError
from flowq.printable import error_text

_LONGEST_TRACEBACK = 16_384
_NOT_THE_USERS = (FLOWQ, str(Path(traceback.__file__).parent / "concurrent"))


def dead_letter_info(letter: DeadLetter, delivery: Delivery, run_id: str) -> Mapping[str, Any]:
    """Reason, error, traceback, place in the user's code, attempts, times, lineage and origin, ready for JSON.

    `first_ms` is when the message was first appended to its edge, in milliseconds since 1970. The entry of the dead
    letter itself has the time of death.
    """
    header = letter.header
    return {
        "reason": letter.reason,
        "error": error_line(letter.error),
        "error_type": type(_first(letter.error)).__name__ if letter.error else "",
        "traceback": user_traceback(letter.error),
        "place": str(letter.place or ""),
        "attempts": header.attempt,
        "first_ms": header.first_ms or delivery.appended_ms,
        "root_id": header.root_id,
        "parent_id": header.parent_id,
        "hops": header.hops,
        "worker": delivery.worker,
        "run": run_id,
    }


def error_line(error: BaseException | None) -> str:
    """The error in one line, for lists. For a group: its first error and the number of others."""
    if error is None:
        return ""
    if n_more := sum(1 for _ in leaves_of(error)) - 1:
        return f"{error_line(_first(error))} (and {n_more} more)"
    error = _first(error)
    text = f"{error.message}: {error.detail}".rstrip(": ") if isinstance(error, FlowqError) else error_text(error)
    first_line = next(iter(text.splitlines()), "")
    return writable(f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__)


def _first(error: BaseException) -> BaseException:
    return next(leaves_of(error))


def user_traceback(error: BaseException | None) -> str:
    """The traceback without flowq's own frames: its last 16 KiB, which end with the error."""
    if error is None or (error.__traceback__ is None and not getattr(error, "__notes__", ())):
        return ""
    told = traceback.TracebackException.from_exception(error)
    to_do: list[traceback.TracebackException | None] = [told]
    while to_do:
        if (link := to_do.pop()) is not None:
            link.stack = traceback.StackSummary.from_list(
                [frame for frame in link.stack if not frame.filename.startswith(_NOT_THE_USERS)]
            )
            to_do += (link.__cause__, link.__context__, *(link.exceptions or ()))
    return writable("".join(told.format())[-_LONGEST_TRACEBACK:])


def writable(text: str) -> str:
    """Text that JSON can represent: lone surrogates, as in badly cut text, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


CRASHES_BEFORE_BURIAL = 3
"""How many workers may die with a message. The first may die of a neighbour; then the message is run alone."""


def crash_info(worker: bytes, crashed: str, run_id: str) -> dict[str, str]:
    """What a dead letter records of a message that kept crashing workers; `crashed` is how the last one died."""
    return {
        "reason": "crash",
        "error": f"WorkerCrashed: {CRASHES_BEFORE_BURIAL} workers have died with this message, the last {crashed}",
        "error_type": "WorkerCrashed",
        "worker": text_in(worker),
        "run": run_id,
    }
