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
_MOST_CHARACTERS = 60  # of a message
_MOST_CHARACTERS_OF_AN_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and that a story may tell.

    `at_seconds`: since the start, by the virtual clock. `messages`: the stage and the id of each message that it is
    about; nothing for what concerns the whole worker. `call`: what a handler was called with, instead of a text.
    """

    at_seconds: float
    worker: str
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """How a case failed. Its text is what `Found` prints."""

    case: Case
    lines: tuple[str, ...]
    error: str
    code: str

    def __str__(self) -> str:
        told = "\n".join(f"  {line}" for line in self.lines)
        code = "\n".join(f"    {line}" for line in self.code.splitlines())
        return f"{self.head}\n\n{told}\n\n{self.error}\n\nTo see it again:\n\n{code}\n"

    @property
    def head(self) -> str:
        """The seed and the faults, in one line."""
        faults = self.case.faults
        if not faults:
            return f"seed {self.case.seed}, no fault: the order in which things happen is enough"
        return f"seed {self.case.seed}, {len(faults)} fault{'s' * (len(faults) > 1)}: {_listed(faults)}"


def tell(case: Case, moments: Iterable[Moment], error: BaseException, harness: str) -> Story:
    """The story of a case that failed with that error.

    Moments of the same time are told in the order in which they are given. Of many, those of messages that ran once are
    left out. `harness`: how the test begins its call of the harness, up to the seed.
    """
    told = sorted(moments, key=lambda moment: round(moment.at_seconds, 6))  # calls are known to the microsecond
    if len(told) > _MOST_LINES and (repeated := _repeated(told)):
        told = [moment for moment in told if not moment.messages or repeated & {*moment.messages}]
    lines = _shortened([*_lines(told)])
    problem = _cut(f"{type(error).__name__}: {printable_block(error_text(error))}", _MOST_CHARACTERS_OF_AN_ERROR)
    return Story(case, tuple(lines), problem, _code(case, harness))


def _code(case: Case, harness: str) -> str:
    faults = f", faults=[{_listed(case.faults)}]" if case.faults else ""
    size = "" if case.size is None else f", {case.size}"
    return f"async with {harness}, seed={case.seed}{faults}, workers={case.workers}) as h:\n    await build(h{size})"


def _lines(moments: Sequence[Moment]) -> Iterator[str]:
    longest_worker = max((len(moment.worker) for moment in moments), default=0)
    seen = set[tuple[str, str]]()
    for moment in moments:
        text = moment.text
        if (call := moment.call) is not None:
            again = "  <- again" if seen.intersection(moment.messages) else ""
            seen.update(moment.messages)
            text = f"{call.stage}({_shown(call.message)}), attempt {call.attempt}{again}"
        yield f"{moment.at_seconds:9.3f} s  {moment.worker:{longest_worker}}  {text}"


def _repeated(moments: Sequence[Moment]) -> set[tuple[str, str]]:
    """The messages that a handler was called with more than once."""
    times = Counter(message for moment in moments if moment.call for message in moment.messages)
    return {message for message, n in times.items() if n > 1}


def _shown(message: Any) -> str:
    return _cut(printable(repr(message)), _MOST_CHARACTERS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"          … {len(lines) - 2 * half} more …", *lines[-half:]]


def _listed(faults: Sequence[Fault]) -> str:
    return ", ".join(map(str, faults))
