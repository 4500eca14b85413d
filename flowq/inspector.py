"""Reads the state of a pipeline, and puts its dead letters back: for programs, the command line and dashboards."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import orjson

from flowq.broker.balance import StageBalance, balance_of
from flowq.broker.overview import Overview, overview_of
from flowq.broker.recorded_plan import Orphan, orphans_of
from flowq.broker.records import DeadEntry, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.tempo import Tempo, tempo_of
from flowq.broker.turns import HeldKey, held_keys
from flowq.broker.vitals import RunningMessage, slowest_of
from flowq.delivery.message import Header
from flowq.graph.plan import Plan, inlet_of

_LETTERS_PER_CALL = 200  # each may carry a body of a megabyte
_NO_JSON = object()


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter, decoded. Everything in it may come from outside: escape it before it reaches a screen.

    `id` is its place among the dead letters of its stage, `message_id` the name that the message keeps over retries
    and replays. `edge` is where it came from. `reason` is one of flowq's own few ("attempts exhausted", "rejected",
    ...), `error` the first line of what was raised, with its type. `first_at` and `died_at` are when the message was
    first appended to its edge and when it was given up, in UTC. `hops` counts the stages between it and `root_id`,
    the message that entered the pipeline.
    """

    stage: str
    id: str
    message_id: str
    edge: str
    reason: str
    error: str
    error_type: str
    traceback: str
    attempts: int
    first_at: datetime
    died_at: datetime
    root_id: str
    parent_id: str
    hops: int
    worker: str
    run: str
    body: bytes

    @property
    def line(self) -> str:
        """What lists and `error=` filters go by: the error, or the reason where nothing was raised."""
        return self.error or self.reason

    @property
    def message(self) -> Any:
        """The body as a JSON value; None when it is not JSON."""
        return _json_or(None, self.body)

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON. A body that is not JSON itself stands under `body_base64` instead of `message`."""
        values = {**asdict(self), "first_at": _iso(self.first_at), "died_at": _iso(self.died_at)}
        del values["body"]
        message = _json_or(_NO_JSON, self.body)
        if message is _NO_JSON:
            return {**values, "body_base64": b64encode(self.body).decode()}
        return {**values, "message": message}


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one stage that share a `line`. `position` is that of the first of them in the list, from 1."""

    stage: str
    error: str
    count: int
    first_died_at: datetime
    last_died_at: datetime
    position: int

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        first, last = _iso(self.first_died_at), _iso(self.last_died_at)
        return {**asdict(self), "first_died_at": first, "last_died_at": last}


class Inspector:
    """Looks at one pipeline while it runs or rests; needs no worker.

    `stage`, `error` and `ids` narrow down dead letters: `error` is a glob over their `line`, `ids` are ids of letters
    or of messages. Letters are listed by stage in the plan's order, within a stage in the order in which they died.

    Methods raise BrokerUnavailable when Redis does not answer, and NotFound for a stage that the plan does not have.

    >>> from flowq.broker.open import open_broker
    >>> async def repair(pipeline):
    ...     async with open_broker(pipeline.name, redis="redis://localhost:6379/0") as broker:
    ...         return await Inspector(pipeline.plan, broker).replay("fetch", error="*HTTP 503*")
    """

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker

    async def snapshot(self) -> Snapshot:
        """The whole state, from one instant."""
        plan = self._plan
        return await self._broker.snapshot([edge.name for edge in plan.edges], [stage.name for stage in plan.consumers])

    async def balance(self) -> Mapping[str, StageBalance]:
        """The counters of every stage, from one instant: they add up."""
        return balance_of(self._plan, await self.snapshot())

    async def tempo(self) -> Mapping[str, Tempo]:
        """How fast every stage has been in the last half minute."""
        return await tempo_of(self._broker, self._plan, await self.snapshot())

    async def overview(self) -> Overview:
        """The whole pipeline at a glance: counters, speeds, ages, workers and memory, where it is held up."""
        return await overview_of(self._broker, self._plan)

    async def slowest(self, limit: int = 5, *, at_least_seconds: float = 0.5) -> list[RunningMessage]:
        """The messages that have been running longest."""
        edges = [edge.name for edge in self._plan.edges]
        return await slowest_of(self._broker, edges, limit=limit, at_least_seconds=at_least_seconds)

    async def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """The workers that are alive, by name, with what they told of themselves.

        A worker that was killed counts until its lease has run out.
        """
        registered = await self._broker.registered_workers()
        leases = await self._broker.leases(list(registered))
        return {name: facts for name, facts in sorted(registered.items()) if leases[name] is not None}

    async def held_keys(self) -> list[HeldKey]:
        """The pacing keys on hold, with the reason and the time left; those held longest first within a stage."""
        return await held_keys(self._broker, [stage.name for stage in self._plan.consumers if stage.rate is not None])

    async def orphans(self) -> list[Orphan]:
        """Edges that an earlier version of the pipeline had and this one has not, with what lies on them."""
        return await orphans_of(self._broker, self._plan)

    # Dead letters

    async def dead_letters(
        self,
        stage: str | None = None,
        *,
        error: str | None = None,
        ids: Collection[str] = (),
        limit: int = 100,
    ) -> list[DeadLetterRecord]:
        """The first `limit` dead letters."""
        found: list[DeadLetterRecord] = []
        if limit > 0:
            async for letter in self.each_dead_letter(stage, error=error, ids=ids):
                found.append(letter)
                if len(found) == limit:
                    break
        return found

    async def each_dead_letter(
        self, stage: str | None = None, *, error: str | None = None, ids: Collection[str] = ()
    ) -> AsyncIterator[DeadLetterRecord]:
        """Every dead letter that is there now, read a few at a time. Those that die meanwhile are left out."""
        async for page in self._pages(stage, error, ids):
            for letter, _ in page:
                yield letter

    async def groups(self, stage: str | None = None, *, error: str | None = None) -> list[DeadLetterGroup]:
        """Dead letters counted by stage and error, the most frequent of a stage first."""
        groups: dict[tuple[str, str], DeadLetterGroup] = {}
        position = 0
        async for letter in self.each_dead_letter(stage, error=error):
            position += 1
            key, died_at = (letter.stage, letter.line), letter.died_at
            group = groups.get(key) or DeadLetterGroup(*key, 0, died_at, died_at, position)
            groups[key] = replace(group, count=group.count + 1, last_died_at=died_at)
        order = {name: i for i, name in enumerate(self._plan.stage_by_name)}
        return sorted(groups.values(), key=lambda group: (order[group.stage], -group.count))

    async def replay(
        self,
        stage: str | None = None,
        *,
        error: str | None = None,
        ids: Collection[str] = (),
        dry_run: bool = False,
    ) -> Mapping[str, int]:
        """Put dead letters back on the edges they came from, to be run again; returns how many, by stage.

        A message keeps its id, and its attempts are counted anew. One whose edge is no longer in the plan enters its
        stage by the inlet. Each letter moves in one atomic step: called twice, or by two people at once, nothing is
        put back twice. Broken off in between, the rest is still dead. `dry_run` only counts.
        """
        put_back: Counter[str] = Counter()
        async for page in self._pages(stage, error, ids):
            by_edge: defaultdict[tuple[str, str], list[tuple[str, bytes, str]]] = defaultdict(list)
            for letter, header in page:
                way_back = (letter.id, header.replayed().encode(), letter.run)
                by_edge[letter.stage, self._edge_back(letter)].append(way_back)
            for (name, edge), letters in by_edge.items():
                put_back[name] += len(letters) if dry_run else await self._broker.replay(name, edge, letters)
        return put_back

    def _edge_back(self, letter: DeadLetterRecord) -> str:
        edge = self._plan.edge_by_name.get(letter.edge)
        return edge.name if edge is not None and edge.target == letter.stage else inlet_of(letter.stage)

    async def _pages(
        self, stage: str | None, error: str | None, ids: Collection[str]
    ) -> AsyncIterator[list[tuple[DeadLetterRecord, Header]]]:
        stages = self._plan.consumers if stage is None else (self._plan.stage(stage),)
        # A letter that is put back may die again at once: without an end, a replay would follow it round and round.
        there_now = (await self.snapshot()).dead_letters
        for plan in stages:
            left, after = there_now[plan.name], ""
            while left > 0:
                limit = min(left, _LETTERS_PER_CALL)
                entries = await self._broker.dead_entries(plan.name, after=after, limit=limit)
                page = [_record(plan.name, entry) for entry in entries]
                yield [(letter, header) for letter, header in page if _matches(letter, error, ids)]
                if len(entries) < limit:
                    break
                left, after = left - limit, entries[-1].entry_id


def _matches(letter: DeadLetterRecord, error: str | None, ids: Collection[str]) -> bool:
    named = not ids or letter.id in ids or letter.message_id in ids
    return named and (error is None or fnmatchcase(letter.line, error))


def _record(stage: str, entry: DeadEntry) -> tuple[DeadLetterRecord, Header]:
    try:
        header = Header.decode(entry.header)
    except ValueError:  # somebody else's entry
        header = Header.entering(f"{stage}:{entry.entry_id}")
    info, died_ms = entry.info, int(entry.entry_id.partition("-")[0])
    letter = DeadLetterRecord(
        stage=stage,
        id=entry.entry_id,
        message_id=header.message_id,
        edge=entry.edge,
        reason=str(info.get("reason", "")),
        error=str(info.get("error", "")),
        error_type=str(info.get("error_type", "")),
        traceback=str(info.get("traceback", "")),
        attempts=header.attempt,
        first_at=_utc(header.first_ms or info.get("first_ms", died_ms)),
        died_at=_utc(died_ms),
        root_id=header.root_id,
        parent_id="" if header.parent_id == "-" else header.parent_id,
        hops=header.hops,
        worker=str(info.get("worker", "")),
        run=str(info.get("run", "")),
        body=entry.body or b"",
    )
    return letter, header


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_or(otherwise: Any, body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return otherwise
