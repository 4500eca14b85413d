"""Dead letters in memory, without their messages: counted by kind, in order. Bounded, whatever they contain."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from heapq import merge
from itertools import islice, pairwise
from typing import Any, NamedTuple

from flowq.delivery.fingerprint import fingerprint
from flowq.delivery.letter_ids import LetterId, is_letter_id
from flowq.delivery.stored import entry_ms, moment_in, text_of
from flowq.delivery.user_code import place_in_traceback

_LONGEST_LINE, _LONGEST_PLACE = 500, 200
_MOST_KINDS, _MOST_LINES_OF_KIND, _MOST_LINES = 2000, 30, 4000
_PERIODS, _MOST_WITH_COUNTS = 30, 100

OTHER = "other"
"""The kind that counts the letters of all kinds after the first two thousand."""

EntryId = tuple[int, int]
"""The id of a letter, packed."""


class LetterRef(NamedTuple):
    """A letter, found by its stage and its id. `died_ms` is when it died, in milliseconds since 1970."""

    stage: str
    id: str
    died_ms: int


@dataclass(frozen=True, slots=True)
class Around:
    """Where a letter is among those of its kind: its position, counted from 1, their number, and its neighbours."""

    position: int
    count: int
    previous: LetterRef | None
    following: LetterRef | None


class Told(NamedTuple):
    """What a letter says about its death: kind, error in one line, its type, and the place in the user's code."""

    fingerprint: str
    line: str
    error_type: str
    place: str

    @classmethod
    def of(cls, info: Mapping[str, Any], shown_as: Callable[[str], str] = str) -> Told:
        """From what the letter records, which any program may have written. Cut, so that it stays small.

        shown_as: what is kept of the line. It gets all of it: what it masks may be recognized by what follows.
        """
        line = line_in(info)
        traceback = text_of(info.get("traceback"))
        place = text_of(info.get("place")) or str(place_in_traceback(traceback) or "")
        error_type = text_of(info.get("error_type"))
        return cls(
            fingerprint(line, traceback),
            shown_as(line)[:_LONGEST_LINE],
            error_type[:_LONGEST_PLACE],
            place[-_LONGEST_PLACE:],
        )


@dataclass(frozen=True, slots=True)
class LetterKind:
    """Dead letters of one stage with the same fingerprint. `error` and `place` are those of the first of them.

    `counts` says how many died in each of thirty periods of `period_ms`. The first one begins at `from_ms`, the same
    for all kinds of a list, so that they can be compared; only the first hundred kinds of a list have them.
    `is_estimate`: the kind has more different lines than are kept, and the others count as if `error` matched them.
    """

    stage: str
    fingerprint: str
    error: str
    error_type: str
    place: str
    count: int
    first_died_ms: int
    last_died_ms: int
    is_estimate: bool = False
    from_ms: int = 0
    period_ms: float = 0.0
    counts: tuple[int, ...] = ()


class Letters:
    """Letters of one kind and line in the order of their ids, in 24 bytes each."""

    def __init__(self) -> None:
        self._ms, self._seq, self._died = array("Q"), array("Q"), array("Q")
        self._is_in_order = True  # a restored letter may have died before others with lower ids
        self._sorted: array[int] | None = None

    def __len__(self) -> int:
        return len(self._ms)

    def add(self, at: EntryId, died_ms: int) -> None:
        is_last = not self._ms or (self._ms[-1], self._seq[-1]) < at
        self._is_in_order = self._is_in_order and is_last and (not self._died or self._died[-1] <= died_ms)
        self._sorted = None
        position = len(self) if is_last else self.before(at)
        for column, value in ((self._ms, at[0]), (self._seq, at[1]), (self._died, died_ms)):
            column.insert(position, value)

    @property
    def times(self) -> array[int]:
        """When they died, the earliest first."""
        if self._is_in_order:
            return self._died
        if self._sorted is None:
            self._sorted = array("Q", sorted(self._died))
        return self._sorted

    def before(self, at: EntryId) -> int:
        """How many have a lower id."""
        first, last = bisect_left(self._ms, at[0]), bisect_right(self._ms, at[0])
        return bisect_left(self._seq, at[1], first, last)

    def has(self, at: EntryId) -> bool:
        position = self.before(at)
        return any(found == at for found, _ in self.some(position, position + 1))

    def some(self, first: int, last: int) -> Iterator[tuple[EntryId, int]]:
        """The ids and times of death of those from one position up to another."""
        columns = [column[max(first, 0) : max(last, 0)] for column in (self._ms, self._seq, self._died)]
        return (((ms, seq), died) for ms, seq, died in zip(*columns, strict=True))

    def keep(self, after: EntryId, to: EntryId | None, ids: Collection[EntryId]) -> int:
        """Of those after one id and up to another, keep only these; returns how many were removed."""
        first = bisect_left(self._ms, after[0])
        last = len(self) if to is None else bisect_right(self._ms, to[0])
        found = list(self.some(first, last))
        kept = [(at, died) for at, died in found if at <= after or at in ids or (to is not None and at > to)]
        if len(kept) < len(found):
            self._sorted = None
            self._ms[first:last] = array("Q", [at[0] for at, _ in kept])
            self._seq[first:last] = array("Q", [at[1] for at, _ in kept])
            self._died[first:last] = array("Q", [died for _, died in kept])
        return len(found) - len(kept)


@dataclass(slots=True)
class _Kind:
    """The letters of one stage with the same fingerprint by line; None has those whose lines are not kept."""

    error: str
    error_type: str
    place: str
    by_line: dict[str | None, Letters] = field(default_factory=dict[str | None, Letters])

    def matching(self, error: str | None) -> list[Letters]:
        """Those whose line matches a glob. If any does, lines that are not kept count as matching."""
        if error is None:
            return list(self.by_line.values())
        found = [each for line, each in self.by_line.items() if line is not None and fnmatchcase(line, error)]
        return [*found, self.by_line[None]] if found and None in self.by_line else found

    def summary(self, stage: str, fingerprint: str, error: str | None, since_ms: int) -> LetterKind | None:
        """Those that match, counted; None if there are none."""
        times = [letters.times for letters in self.matching(error)]
        firsts = [bisect_left(each, since_ms) for each in times]
        some = [(each, first) for each, first in zip(times, firsts, strict=True) if first < len(each)]
        if not some:
            return None
        return LetterKind(
            stage, fingerprint, self.error, self.error_type, self.place,
            count=sum(len(each) - first for each, first in some),
            first_died_ms=min(each[first] for each, first in some),
            last_died_ms=max(each[-1] for each, _ in some),
            is_estimate=error is not None and None in self.by_line,
        )  # fmt: skip


class LetterKinds:
    """The dead letters of a pipeline, without their messages, in the order of its stages.

    Each takes 24 bytes. Errors are compared by their first 500 characters. The first 2,000 kinds are kept apart, with
    the first 30 lines of each and 4,000 lines in total: together at most about ten megabytes more.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._by_stage: dict[str, dict[str, _Kind]] = {stage: {} for stage in stages}
        self._n: dict[str, int] = dict.fromkeys(stages, 0)
        self._n_kinds = self._n_lines = 0

    @property
    def read(self) -> int:
        """How many letters are known."""
        return sum(self._n.values())

    def kinds(
        self, *, stage: str | None = None, error: str | None = None, since: datetime | None = None
    ) -> list[LetterKind]:
        """The kinds of letters that match, the most frequent first. Reads nothing.

        stage: only of this stage. error: a glob over the line of a letter. since: only those that died from then on.
        """
        since_ms = round(since.timestamp() * 1000) if since else 0
        found = [
            summary
            for name, kinds in self._by_stage.items()
            if stage in (None, name)
            for fingerprint, kind in kinds.items()
            if (summary := kind.summary(name, fingerprint, error, since_ms))
        ]
        found.sort(key=lambda kind: -kind.count)
        if not found:
            return found
        from_ms = min(kind.first_died_ms for kind in found)
        period_ms = (max(kind.last_died_ms for kind in found) + 1 - from_ms) / _PERIODS
        return [
            *(self._with_counts(kind, error, from_ms, period_ms) for kind in found[:_MOST_WITH_COUNTS]),
            *found[_MOST_WITH_COUNTS:],
        ]

    def _with_counts(self, kind: LetterKind, error: str | None, from_ms: int, period_ms: float) -> LetterKind:
        counts = [0] * _PERIODS
        edges = [from_ms + n * period_ms for n in range(_PERIODS)]
        for letters in self._by_stage[kind.stage][kind.fingerprint].matching(error):
            times = letters.times
            positions = [*(bisect_left(times, edge) for edge in edges), len(times)]
            for n, (first, last) in enumerate(pairwise(positions)):
                counts[n] += last - first
        return replace(kind, from_ms=from_ms, period_ms=period_ms, counts=tuple(counts))

    def letters(
        self, kind: str, *, stage: str | None = None, error: str | None = None, after: LetterRef | None = None,
        limit: int = 50,
    ) -> list[LetterRef]:  # fmt: skip
        """The first `limit` letters of a kind, or those after another one: by stage, the oldest first. Reads nothing.

        kind: its fingerprint. after: where the last page ended, whether that letter still exists or not.
        """
        found: list[LetterRef] = []
        stages = list(self._by_stage)
        for name, letters in self._matching(kind, stage, error):
            if after is not None and stages.index(name) < stages.index(after.stage):
                continue
            at = _next_id(after.id) if after is not None and name == after.stage else (0, 0)
            left = limit - len(found)
            pages = [each.some(first, first + left) for each in letters for first in [each.before(at)]]
            found += [_ref(name, one) for one in islice(merge(*pages), left)]
        return found

    def around(self, kind: str, letter_id: str, *, stage: str | None = None, error: str | None = None) -> Around | None:
        """The position of a letter among those of its kind, and its neighbours; None if it is not one of them."""
        of_stages = self._matching(kind, stage, error)
        at = entry_id_in(letter_id) if is_letter_id(letter_id) else (0, 0)
        number = next((n for n, (_, letters) in enumerate(of_stages) if any(each.has(at) for each in letters)), None)
        if number is None:
            return None
        name, letters = of_stages[number]
        earlier = [one for each in letters for n in [each.before(at)] for one in each.some(n - 1, n)]
        previous = _ref(name, max(earlier)) if earlier else None
        if previous is None and number:
            before, others = of_stages[number - 1]
            previous = _ref(before, max(one for each in others for one in each.some(len(each) - 1, len(each))))
        following = self.letters(kind, stage=stage, error=error, after=LetterRef(name, letter_id, 0), limit=1)
        sizes = [sum(map(len, each)) for _, each in of_stages]
        position = 1 + sum(sizes[:number]) + sum(each.before(at) for each in letters)
        return Around(position, sum(sizes), previous, following[0] if following else None)

    def _matching(self, kind: str, stage: str | None, error: str | None) -> list[tuple[str, list[Letters]]]:
        """The letters of a kind by stage; only stages that have any."""
        found = [
            (name, kinds[kind].matching(error))
            for name, kinds in self._by_stage.items()
            if stage in (None, name) and kind in kinds
        ]
        return [(name, letters) for name, letters in found if letters]

    def add(self, stage: str, letter_id: str, died_ms: int, told: Told) -> None:
        """Add a letter, whose id is nearly always higher than that of all others of its stage."""
        kinds, fingerprint = self._by_stage[stage], told.fingerprint
        if fingerprint not in kinds and self._n_kinds >= _MOST_KINDS:
            fingerprint, told = OTHER, Told(OTHER, "other kinds of errors", "", "")
        line: str | None = told.line
        if fingerprint not in kinds:
            kinds[fingerprint] = _Kind(told.line, told.error_type, told.place)
            self._n_kinds += 1
        by_line = kinds[fingerprint].by_line
        if by_line and line not in by_line:
            is_full = len(by_line) >= _MOST_LINES_OF_KIND or self._n_lines >= _MOST_LINES
            line = None if is_full else line
        if line not in by_line:
            by_line[line] = Letters()
            self._n_lines += 1
        by_line[line].add(entry_id_in(letter_id), died_ms)
        self._n[stage] += 1

    def _keep(self, stage: str, after: str, to: str | None, ids: Collection[str]) -> None:
        """Of the letters of a stage after one id and up to another, keep only these."""
        kept = set(map(entry_id_in, ids))
        first, last = entry_id_in(after), None if to is None else entry_id_in(to)
        for name, kind in list(self._by_stage[stage].items()):
            for line, letters in list(kind.by_line.items()):
                self._n[stage] -= letters.keep(first, last, kept)
                if not len(letters):
                    del kind.by_line[line]
                    self._n_lines -= 1
            if not kind.by_line:
                del self._by_stage[stage][name]
                self._n_kinds -= 1


def line_in(info: Mapping[str, Any]) -> str:
    """The line of a letter, from what it records."""
    return text_of(info.get("error")) or text_of(info.get("reason"))


def died_ms_in(letter_id: str, info: Mapping[str, Any]) -> int:
    """When its message died, in milliseconds since 1970."""
    return moment_in(info["died_ms"]) if "died_ms" in info else entry_ms(letter_id)


def entry_id_in(text: str) -> EntryId:
    """The id of a letter, which is valid, as two numbers."""
    if "@" in text:
        return LetterId.parse(text).packed
    ms, _, seq = text.partition("-")
    return int(ms), int(seq)


def id_of_letter(at: EntryId) -> str:
    """The id that `entry_id_in` has packed."""
    return str(LetterId.unpacked(at))


def _next_id(text: str) -> EntryId:
    ms, seq = entry_id_in(text)
    return ms, seq + 1


def _ref(stage: str, letter: tuple[EntryId, int]) -> LetterRef:
    at, died_ms = letter
    return LetterRef(stage, id_of_letter(at), died_ms)
