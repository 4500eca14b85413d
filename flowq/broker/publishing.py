"""What enters a pipeline in one step: messages for some edges, what could not become one, and how far a source is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowq.broker.keys import Keys
from flowq.delivery.settlement import Output

PUBLISH_WINDOW_MS = 3_600_000
"""How long a publish that is sent again is recognised."""


class Refused(NamedTuple):
    """What could not become a message of an edge: a dead letter from the beginning. `info` is JSON."""

    edge: str
    header: bytes
    body: bytes
    info: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that enters one edge. `deduplicated_by` names a stage, `seen_ms` is its; `maxsize` 0 is no limit."""

    edge: str
    messages: Sequence[Output]
    refused: Sequence[Refused] = ()
    deduplicated_by: str | None = None
    maxsize: int = 0
    seen_ms: int = -1


@dataclass(frozen=True, slots=True)
class CursorMove:
    """How far a source is: stored only if it stands at `before` (b"" when it has not begun)."""

    name: str
    before: bytes
    after: bytes


def packed(
    keys: Keys,
    parcels: Sequence[Parcel],
    *,
    token: str,
    delay_ms: int,
    source: str,
    move: CursorMove | None,
    finished: str,
    runner: str,
    releases: bool = False,
) -> tuple[list[Any], list[Any]]:
    """The keys and arguments of the publish script. `releases`: a duplicate may be a reference to a large body."""
    names: list[Any] = [keys.stats, keys.published, keys.cursors, keys.run]
    cursor = (move.name, move.before, move.after) if move else ("", b"", b"")
    arguments: list[Any] = [token, PUBLISH_WINDOW_MS, delay_ms, source, *cursor, finished, len(parcels)]
    for parcel in parcels:
        edge, stage = parcel.edge, parcel.edge.rpartition(">")[2]
        deduplicates = parcel.seen_ms if parcel.deduplicated_by is not None else 0
        seen = keys.seen_until(stage) if deduplicates > 0 else keys.seen(stage)
        names += (keys.edge(edge), seen, keys.delayed(edge), keys.delayed_bodies(edge), keys.dead(stage))
        arguments += (edge, stage, parcel.maxsize, deduplicates, len(parcel.messages), len(parcel.refused))
    for parcel in parcels:
        for message in parcel.messages:
            arguments += (message.header, message.body)
            if parcel.deduplicated_by is not None:
                arguments.append(message.dedup_hash)
        for refused in parcel.refused:
            arguments += refused[1:]
    arguments.append(runner)
    if releases:
        names.append(keys.released)
    return names, arguments
