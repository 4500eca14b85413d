"""What the broker reads, as values: the state of a pipeline, deliveries, dead letters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import Any

from flowq.delivery.failed_attempts import failure_in
from flowq.delivery.message import GARBLED, MISSING, Arrival, Delivery, Header, Row
from flowq.delivery.stored import count_in, counts_in, json_object_in, moment_in, text_in, texts_in

_PLAIN = rb"[!-~]{1,999}+ [!-~]{1,999}+ [!-~]{1,999}+ [0-9]{1,15}+(?: t=[!-~]{0,999}+)?+(?: w=[!-~]{0,999}+)?+"
_IS_PLAIN = re.compile(_PLAIN).fullmatch
"""Whether a header can surely be read. Nearly all are of this form; the others are decoded to find out."""
_ARE_PLAIN = re.compile(rb"(?:%b\n)*+" % _PLAIN).fullmatch
"""The same for many headers, each with a line break: one call costs half as much as many."""

_LOOKS_LIKE_OURS = re.compile(rb"\S+ \S+ \S+ [0-9]+(?: |$)").match
"""Whether an entry claims to be written by flowq. By the same rule the scripts assume that it was counted."""


_FURTHER = b"flowq:further"
_HAS_FIELDS = b" b=fields"
_MOST_DIGITS = 9

OTHER = "other"
"""The kind of error under which all are counted that have no counter of their own."""

RECEIVED, OK = "in", "ok"  # kinds of counters, by edge and by stage
WHOLE = "*"
"""All stages, in a pause."""

TAKES_PART = "takes_part"
"""The fact about a worker of a pipeline with several shards that shards are assigned to it."""


@dataclass(frozen=True, slots=True)
class EdgeState:
    """What an edge holds: entries in its stream, how many of them are being worked on, and delayed messages."""

    length: int
    running: int
    delayed: int

    @property
    def waiting(self) -> int:
        return max(0, self.length - self.running)

    @property
    def outstanding(self) -> int:
        # An entry that is deleted by hand (XDEL, XTRIM) while it runs is not in the stream, but still has outputs.
        return max(self.length, self.running) + self.delayed


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Failed attempts of one stage in the current run that are alike and were tried again, or are going to be.

    `error` and `place` are those of the last one; `next_attempt` is due at `due_ms`. The kind `OTHER` is all that came
    after the first ten.
    """

    kind: str
    count: int
    error: str
    place: str
    next_attempt: int
    due_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a pipeline at one instant. `failures` are by stage, the most frequent first.

    `edges` are those of the plan. `orphans` are those that only other versions of the pipeline have, and
    `orphan_letters` counts the dead letters of stages that only they have.

    Of a pipeline with several shards it is the sum of their states, each of its own instant. `in_transit` are messages
    between shards, which are on no edge. `is_whole` is False while a shard does not answer: what it holds is missing.
    """

    counters: Mapping[str, int]
    run: Mapping[str, str]
    workers: tuple[Mapping[str, Any], ...]
    now_ms: int
    edges: Mapping[str, EdgeState]
    dead_letters: Mapping[str, int]
    paused: Mapping[str, int] = field(default_factory=dict[str, int])  # since when, in milliseconds
    failures: Mapping[str, Sequence[FailureCount]] = field(default_factory=dict[str, Sequence["FailureCount"]])
    orphans: Mapping[str, EdgeState] = field(default_factory=dict[str, EdgeState])
    orphan_letters: Mapping[str, int] = field(default_factory=dict[str, int])
    in_transit: int = 0
    is_whole: bool = True

    def is_paused(self, stage: str) -> bool:
        """Whether this stage was paused by a user, so that no worker starts anything new in it."""
        return stage in self.paused or WHOLE in self.paused

    @property
    def outstanding(self) -> int:
        """Messages waiting, running and delayed anywhere on the edges of the plan, and those in transit."""
        return sum(edge.outstanding for edge in self.edges.values()) + self.in_transit

    @property
    def open_sources(self) -> tuple[str, ...]:
        """The sources of the current run that have not finished."""
        return tuple(
            name.removeprefix("source:")
            for name, state in self.run.items()
            if name.startswith("source:") and state.startswith("open")
        )

    @property
    def is_drained(self) -> bool:
        return self.is_whole and not self.open_sources and not self.outstanding


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome of one publish call."""

    appended: int
    duplicates: int
    is_repeated: bool = False  # an earlier call has done it, with the same token
    full_at: int | None = None  # messages outstanding on the edge that refused
    is_elsewhere: bool = False  # another worker has moved the cursor, and nothing was appended


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Deliveries taken over from a dead worker; `finished` when it has nothing left on that edge."""

    deliveries: Sequence[Delivery]
    finished: bool


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """A dead letter as it is stored. `is_edited`: its body is not the one it died with.

    `content` is its body if that is in the claim store and has been read from there.
    """

    entry_id: str
    edge: str
    header: bytes
    body: bytes | None
    info: Mapping[str, Any]
    foreign: Mapping[bytes, bytes]
    is_edited: bool = False
    content: bytes | None = None


def deliveries_of(edge: str, entries: Sequence[Any], worker: str, epoch: int) -> list[Delivery]:
    """Deliveries from the entries of one stream as Redis lists them."""
    return [Delivery(*row) for row in rows_of(Arrival(edge, worker, epoch), entries)]


def rows_of(arrival: Arrival, entries: Sequence[Any]) -> list[Row]:
    """Entries as rows. They are made column by column if all are plain, as nearly always: in a third of the time."""
    try:
        ids, fields = zip(*entries, strict=True)
        names, headers, body_names, bodies = zip(*fields, strict=True)
    except (TypeError, ValueError):  # some have other fields, or none
        pass
    else:
        n, lines = len(ids), b"\n".join((*headers, b""))
        if names.count(b"h") == body_names.count(b"b") == n == lines.count(b"\n") and _ARE_PLAIN(lines):
            return list(zip(repeat(arrival), ids, headers, bodies, repeat(None)))
    return [_row_of(arrival, *entry) for entry in entries if entry]


def _row_of(arrival: Arrival, entry_id: bytes, fields: Sequence[bytes] | None) -> Row:
    if fields is None:  # deleted by hand while it was pending
        return arrival, entry_id, MISSING, b"", None
    if len(fields) == 4 and fields[0] == b"h" and fields[2] == b"b" and _IS_PLAIN(fields[1]):
        return arrival, entry_id, fields[1], fields[3], None
    values = _whole(fields)
    header, body = values.get(b"h", b""), values.get(b"b", b"")
    try:
        Header.decode(header)
    except ValueError:  # not written by flowq, and so not counted yet
        return arrival, entry_id, GARBLED if _LOOKS_LIKE_OURS(header) else b"", body, values
    return arrival, entry_id, header, body, None


def _whole(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """All fields of an entry by name, also those that share one because there are too many (`entries.lua`)."""
    values = dict(pairs(fields))
    if words := _words_of(values.get(_FURTHER, b"")):
        del values[_FURTHER]
        return dict(pairs(words)) | values
    return values


def _words_of(text: bytes) -> list[bytes]:
    """The names and values that share one text (`entries.lua`); empty if another program has written it."""
    words, at = list[bytes](), 0
    while at < len(text):  # by position: cutting off each word would be quadratic
        colon = text.find(b":", at, at + _MOST_DIGITS + 1)
        length = text[at : max(at, colon)]
        if not length.isdigit() or colon + 1 + int(length) > len(text):
            return []
        at = colon + 1 + int(length)
        words.append(text[colon + 1 : at])
    return words if len(words) % 2 == 0 else []


def delayed_delivery(edge: str, parked: bytes) -> Delivery:
    """A delayed message as it is stored, see `delayed_fields`."""
    (delivery,) = deliveries_of(edge, [(b"", delayed_fields(parked))], "", 0)
    return delivery


def delayed_fields(parked: bytes) -> list[bytes]:
    """The fields of a delayed message: header, line break, body or all fields (`append.lua`).

    Without a line break all of it is the body.
    """
    header, found, body = parked.partition(b"\n")
    if not found:
        return [b"b", parked]
    if header.endswith(_HAS_FIELDS) and (words := _words_of(body)):
        return [b"h", header.removesuffix(_HAS_FIELDS), *words]
    return [b"h", header, b"b", body]


def dead_entry(entry_id: bytes, fields: Sequence[bytes], edited: bytes | None = None) -> DeadEntry:
    """A dead letter from its stored fields, which any program may have written, and its new body if it was edited."""
    values = _whole(fields)
    return DeadEntry(
        entry_id=text_in(entry_id),
        edge=text_in(values.get(b"e", b"")),
        header=values.get(b"h", b""),
        body=values.get(b"b") if edited is None else edited,
        info=letter_info(values.get(b"x")),
        foreign={name[2:]: value for name, value in values.items() if name.startswith(b"f:")},
        is_edited=edited is not None,
    )


def letter_info(raw: bytes | None) -> Mapping[str, Any]:
    """What a letter records about its death."""
    info = json_object_in(b"{}" if raw is None else raw)
    return {"reason": "unknown"} if info is None else info


_LONGEST_LEASE_SECONDS, _LARGEST_PID = 86_400.0, 2**31


@lru_cache(1000)  # they change only when a worker registers
def worker_facts(raw: bytes) -> Mapping[str, Any]:
    """What a worker has registered about itself, without invalid values; empty if it cannot be read."""
    told = json_object_in(raw) or {}
    facts: dict[str, Any] = {
        name: told[name]
        for name in ("worker", "host", "where", "born", "supervisor", "version")
        if isinstance(told.get(name), str)
    }
    facts |= {name: list(texts_in(told[name])) for name in ("stages", "edges", "formerly") if name in told}
    if isinstance(told.get(TAKES_PART), bool):
        facts[TAKES_PART] = told[TAKES_PART]
    if (started_ms := moment_in(told.get("started_ms"))) > 0:
        facts["started_ms"] = started_ms
    if slots := counts_in(told.get("slots")):
        facts["slots"] = slots
    pid, lease_seconds = told.get("pid"), told.get("lease_seconds")
    if type(pid) is int and 0 < pid < _LARGEST_PID:
        facts["pid"] = pid
    if (
        isinstance(lease_seconds, int | float)
        and not isinstance(lease_seconds, bool)
        and 0 < lease_seconds <= _LONGEST_LEASE_SECONDS
    ):
        facts["lease_seconds"] = lease_seconds
    return facts


def snapshot_of(
    reply: Sequence[Any],
    edges: Sequence[str],
    stages: Sequence[str],
    orphans: Sequence[str] = (),
    orphan_stages: Sequence[str] = (),
) -> Snapshot:
    """The reply of the snapshot script for these edges and stages. Workers without a name are left out."""
    counters, run, workers, now_ms, sizes, letters, paused, failures, _ = reply
    about_run = texts_by_name(run)
    states = [EdgeState(*size) for size in sizes]
    return Snapshot(
        counters=counters_in(counters),
        run=about_run,
        workers=tuple(facts for facts in map(worker_facts, workers) if "worker" in facts),
        now_ms=now_ms,
        edges=dict(zip(edges, states[: len(edges)], strict=True)),
        dead_letters=dict(zip(stages, letters[: len(stages)], strict=True)),
        paused=moments_by_name(paused),
        failures=failure_counts_in(texts_by_name(failures), about_run.get("id", "")),
        orphans=dict(zip(orphans, states[len(edges) :], strict=True)),
        orphan_letters=dict(zip(orphan_stages, letters[len(stages) :], strict=True)),
    )


def failure_counts_in(stored: Mapping[str, str], run_id: str) -> dict[str, Sequence[FailureCount]]:
    """The counts of failed attempts by stage (`failure_counts.lua`); none if they are those of another run."""
    found: dict[str, list[FailureCount]] = {}
    for name, value in stored.items() if stored.get("run", "") == run_id else ():
        match name.split(" "), value.split(" "):
            case ["failure", stage, kind], [count, attempt, due_ms, word]:
                last = failure_in(word)
                error, place = (last.error, last.place) if last else ("", "")
                counted = FailureCount(kind, count_in(count), error, place, count_in(attempt), moment_in(due_ms))
                found.setdefault(stage, []).append(counted)
            case _:
                pass
    return {stage: sorted(counts, key=lambda each: -each.count) for stage, counts in found.items()}


def counters_in(flat: Sequence[bytes]) -> dict[str, int]:
    """Counters by name; those that are no numbers count as 0."""
    return {text_in(name): count_in(value) for name, value in pairs(flat)}


def counted(counters: Mapping[str, int], kind: str) -> int:
    """The counters of one kind, of all edges or stages together."""
    return sum(n for name, n in counters.items() if name.startswith(f"{kind}:"))


def before_move(kind: str) -> str:
    """The counter of what a shard had counted of one kind when shards were last moved, if that was in this run."""
    return f"before_move:{kind}"


def texts_by_name(flat: Sequence[bytes]) -> dict[str, str]:
    """The fields of a hash of texts."""
    return {text_in(name): text_in(value) for name, value in pairs(flat)}


def moments_by_name(flat: Sequence[bytes]) -> dict[str, int]:
    """The fields of a hash of moments, in milliseconds since 1970."""
    return {text_in(name): moment_in(value) for name, value in pairs(flat)}


def pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Names and values from the flat list that Redis returns."""
    return list(zip(flat[::2], flat[1::2], strict=True))
