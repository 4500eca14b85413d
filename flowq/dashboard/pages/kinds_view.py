"""Kinds of dead letters, and what was done to them, as their page shows them: values in, texts out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple

from flowq.broker.audit import DONE, AuditRecord
from flowq.dashboard.access.shown_conditions import shown_words
from flowq.dashboard.access.shown_fields import ShownFields, masked_text
from flowq.dashboard.pages.letter_filters import LetterFilters
from flowq.dashboard.pages.times import Time, ago, time_at
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.dead_letters.letter_kinds import LetterKind
from flowq.wording.quantities import counted

MOST_KINDS = 200
_MOST_DONE = 6
_STEP, _HEIGHT = 4, 22
_VERBS = {
    "retry": ("back", "retried"),
    "edit": ("edit", "edited"),
    "remove": ("bin", "removed"),
    "purge": ("bin", "purged"),
    "replay": ("play", "replayed"),
}


class Bar(NamedTuple):
    """One period of a kind."""

    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind in the list."""

    title: str
    stage: str
    place: str
    fingerprint: str
    count: str
    last: Time
    bars: Sequence[Bar]
    bars_say: str
    query: str
    is_here: bool


@dataclass(frozen=True, slots=True)
class DoneHere:
    """What was done to dead letters."""

    icon: str
    title: str
    text: str
    at: Time


class Nothing(NamedTuple):
    """What an empty list says; `error` is a filter that may find more."""

    title: str
    text: str
    error: str = ""


def kind_rows(
    kinds: Sequence[LetterKind], filters: LetterFilters, here: DeadLetterRecord | None, now: datetime
) -> list[KindRow]:
    """The kinds; `here` is the letter beside them."""
    n_stages = Counter(kind.fingerprint for kind in kinds)
    return [
        _row(
            kind,
            query=filters.query(kind.stage if n_stages[kind.fingerprint] > 1 else ""),
            is_here=here is not None and (here.stage, here.fingerprint) == (kind.stage, kind.fingerprint),
            now=now,
        )
        for kind in kinds[:MOST_KINDS]
    ]


def _row(kind: LetterKind, *, query: str, is_here: bool, now: datetime) -> KindRow:
    """A kind, and how many died in each of thirty periods."""
    most = max(kind.counts, default=0) or 1
    heights = [round(max(1.5, n / most * (_HEIGHT - 2)), 1) if n else 0.0 for n in kind.counts]
    first, last = time_at(kind.first_died_ms, now), time_at(kind.last_died_ms, now)
    return KindRow(
        title=kind.error or "an error without a message",
        stage=kind.stage,
        place=PurePath(kind.place).name,
        fingerprint=kind.fingerprint,
        count=("up to " if kind.is_estimate else "") + f"{kind.count:,}",
        last=last,
        bars=[Bar(i * _STEP, _HEIGHT - height, height) for i, height in enumerate(heights) if height],
        bars_say=f"{kind.count:,} from {first.text} to {last.text}",
        query=query,
        is_here=is_here,
    )


def summary_of(kinds: Sequence[LetterKind], index: DeadLetterIndex, now_ms: int) -> str:
    """How many letters of how many kinds, and how many have been read so far."""
    n = sum(kind.count for kind in kinds)
    parts = [f"{counted(n, 'letter')} of {counted(len(kinds), 'kind')}"]
    if index.read < index.total:
        parts.append(f"{index.read:,} of {index.total:,} read")
    parts.append(f"as of {ago(index.as_of_ms, now_ms)}")
    return " · ".join(parts)


def nothing_of(filters: LetterFilters, index: DeadLetterIndex) -> Nothing:
    """What to say where no kind is listed."""
    if index.read < index.total:
        return Nothing("Still reading", f"{index.read:,} of {index.total:,} letters have been read. Reload the page.")
    if not filters.any:
        return Nothing("No dead letters", "Messages that fail permanently appear here, with traceback and lineage.")
    if filters.error and not set(filters.error) & set("*?["):
        return Nothing("No letter matches", "The filter must match the whole line.", f"*{filters.error}*")
    return Nothing("No letter matches", f"Without these filters there are {counted(index.total, 'letter')}.")


def done_here(records: Sequence[AuditRecord], shown: ShownFields, now: datetime) -> list[DoneHere]:
    """The last changes to dead letters, the latest first."""
    of_letters = (record for record in records if record.action in _VERBS)
    return [_done(record, shown, now) for record in islice(of_letters, _MOST_DONE)]


def _done(record: AuditRecord, shown: ShownFields, now: datetime) -> DoneHere:
    icon, verb = _VERBS[record.action]
    is_done = record.result == DONE
    title = f"{verb} {counted(record.n, 'message')}" if is_done else f"{record.action}: {masked_text(record.result)}"
    text = f"{shown_words(record.selection, shown) or 'all'} · by {record.actor}"
    return DoneHere(icon, title, text, time_at(record.at_ms, now))
