"""Tells how a case failed: what happened to the messages that matter, line by line, as a person would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flowq.printable import error_text, printable, printable_block
from flowq.testing.exploration.case import Case
from flowq.testing.faults import Fault
from flowq.testing.journal import Call

_MOST_LINES = 24
_MOST_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and that a story may tell.

    `at_seconds`: since the start, by the virtual clock. `calls` has what a handler was called with, for a call.
    """

    at_seconds: float
    worker: str
    text: str
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """How a case failed. Its text is what `Found` prints."""

    pipeline: str
    case: Case
    lines: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        told = "\n".join(f"  {line}" for line in self.lines)
        return f"{self.head}\n\n{told}\n\n{self.error}\n\nTo see it again: {self.code}"

    @property
    def head(self) -> str:
        """The seed and the faults, in one line."""
        faults = self.case.faults
        if not faults:
            return f"seed {self.case.seed}, no fault: its schedule is enough"
        return f"seed {self.case.seed}, {len(faults)} fault{'s' * (len(faults) > 1)}: {_listed(faults)}"

    @property
    def code(self) -> str:
        """A call of the harness that takes the same course, and the size of the input if `build` takes one."""
        case = self.case
        faults = f", faults=[{_listed(case.faults)}]" if case.faults else ""
        size = "" if case.size is None else f"  with size={case.size}"
        return f"harness({self.pipeline}, seed={case.seed}{faults}, workers={case.workers}){size}"


def tell(pipeline: str, case: Case, moments: Iterable[Moment], error: BaseException) -> Story:
    """The story of a case that failed with that error. Of many moments, it leaves out the messages that ran once."""
    told = sorted(moments, key=lambda moment: round(moment.at_seconds, 6))  # calls are known to the microsecond
    if len(told) > _MOST_LINES and (repeated := _repeated([moment.call for moment in told if moment.call])):
        told = [moment for moment in told if moment.call is None or _identity(moment.call) in repeated]
    lines = _shortened([*_lines(told)])
    return Story(pipeline, case, tuple(lines), f"{type(error).__name__}: {printable_block(error_text(error))}")


def _lines(moments: Sequence[Moment]) -> Iterator[str]:
    longest_worker = max((len(moment.worker) for moment in moments), default=0)
    seen = Counter[tuple[str, str]]()
    for moment in moments:
        text = moment.text
        if (call := moment.call) is not None:
            seen[_identity(call)] += 1
            again = "  <- again" if seen[_identity(call)] > 1 else ""
            text = f"{call.stage}({_shown(call.message)}), attempt {call.attempt}{again}"
        yield f"{moment.at_seconds:9.3f} s  {moment.worker:{longest_worker}}  {text}"


def _repeated(calls: Sequence[Call]) -> set[tuple[str, str]]:
    times = Counter(map(_identity, calls))
    return {identity for identity, n in times.items() if n > 1}


def _identity(call: Call) -> tuple[str, str]:
    return call.stage, call.message_id


def _shown(message: Any) -> str:
    text = printable(repr(message))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"          … {len(lines) - 2 * half} more …", *lines[-half:]]


def _listed(faults: Sequence[Fault]) -> str:
    return ", ".join(map(str, faults))
