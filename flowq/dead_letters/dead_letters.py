"""The dead letters of one pipeline: lists, counts, fixes, removes and retries them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import orjson

from flowq.broker.inspection.merging.snapshots import numbers_of_letters
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import SilentShard
from flowq.dead_letters.fitting import Edit, Fitting
from flowq.dead_letters.homes import Homes
from flowq.dead_letters.letter import DeadLetterGroup, DeadLetterRecord, is_same_json
from flowq.dead_letters.letters_of_shards import stored_letters
from flowq.dead_letters.selection import Selection
from flowq.dead_letters.stored_letters import Exported, StoredLetters, WayBack
from flowq.delivery.edge import Edge, inlet_of
from flowq.delivery.history import put_back
from flowq.delivery.letter_ids import LetterId, is_letter_id
from flowq.graph.compilation.plan import Plan

_WITH_BODIES_PER_CALL, _PER_CALL = 200, 1000  # a body may be a megabyte
_CLAIMED_PER_CALL = 20  # and much more where bodies are in the claim store
_CHANGED_PER_CALL = 200  # a script blocks Redis

EVERY = Selection()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fixed:
    """The outcome of fixing letters: `n` were fixed, `missing` no longer exist."""

    n: int
    unchanged: int
    missing: tuple[str, ...]


class DeadLetters:
    """Works on the dead letters of one pipeline; needs no worker.

    Letters are listed by stage in the plan's order, within a stage in the order in which they died. Each change is one
    atomic step per letter: if a call is interrupted, repeated or made by two people at once, nothing happens twice, and
    the remaining letters are still dead. A changed letter whose key lives in another shard is put back there, in two
    steps: if the call is interrupted between them, repeat it within an hour.

    Methods raise BrokerUnavailable when Redis does not answer, NotFound for a stage that the plan does not have, and
    DoesNotFit for a fixed message that its stage would not accept, with its `fields` and what is wrong with each.

    >>> from flowq.broker.open import open_broker
    >>> from flowq.settings import Settings
    >>> async def repair(pipeline):
    ...     async with open_broker(pipeline.name, Settings.of_program(redis="redis://localhost:6379/0")) as broker:
    ...         letters = DeadLetters(pipeline.plan, broker)
    ...         return await letters.put_back(Selection("fetch", error="*HTTP 503*"), per_second=20)
    """

    def __init__(self, plan: Plan, broker: Broker, *, silent: dict[int, SilentShard] | None = None) -> None:
        """`silent`: read what there is without the shards that do not answer, which are added to it."""
        self._plan = plan
        self._broker = broker
        self._silent = silent
        self._homes = Homes(plan, broker)

    @property
    def broker(self) -> Broker:
        """The broker of their pipeline."""
        return self._broker

    async def each(self, selection: Selection = EVERY) -> AsyncIterator[DeadLetterRecord]:
        """Every letter that exists now, read page by page. Those that die meanwhile are left out."""
        async for page in self._pages(selection, bodies=True):
            for letter in page:
                yield letter

    async def first(self, selection: Selection = EVERY, *, limit: int) -> list[DeadLetterRecord]:
        """The first `limit` letters."""
        return [letter async for letter in self.each(replace(selection, limit=limit))] if limit > 0 else []

    async def missing(self, selection: Selection) -> list[str]:
        """Those `ids` of a selection that match no letter."""
        found: set[str] = set()
        async for page in self._pages(selection, bodies=selection.needs_bodies):
            for letter in page:
                found |= selection.names(letter)
        return [asked for asked in selection.ids if asked not in found]

    async def groups(self, selection: Selection = EVERY) -> list[DeadLetterGroup]:
        """Letters counted by stage and fingerprint, the most frequent of a stage first."""
        groups: dict[tuple[str, str], DeadLetterGroup] = {}
        position = 0
        async for page in self._pages(selection, bodies=selection.needs_bodies):
            for letter in page:
                position += 1
                key, at = (letter.stage, letter.fingerprint), letter.died_at
                group = groups.get(key)
                if group is None:
                    group = DeadLetterGroup(*key, letter.line, letter.error_type, 0, at, at, position, letter.place)
                first, last = min(group.first_died_at, at), max(group.last_died_at, at)
                groups[key] = replace(group, count=group.count + 1, first_died_at=first, last_died_at=last)
        order = {name: i for i, name in enumerate(self._plan.stage_by_name)}
        return sorted(groups.values(), key=lambda group: (order[group.stage], -group.count))

    async def put_back(
        self,
        selection: Selection = EVERY,
        *,
        to: str | None = None,
        edit: Edit | None = None,
        per_second: float | None = None,
        dry_run: bool = False,
    ) -> Mapping[str, int]:
        """Put letters back on the edges they came from, to be run again; returns how many, by stage.

        A message keeps its id and its history, and has all its attempts again. One whose edge is no longer in the plan
        enters its stage by the inlet; with `to` all enter that stage. `edit` returns new bodies, stored in the same
        step; these, and messages `to` another stage, must fit. `per_second` spreads the letters over time. `dry_run`
        only checks and counts.
        """
        counts: Counter[str] = Counter()
        n_seen = 0
        fittings: dict[str, Fitting] = {}
        whole = selection.needs_bodies or edit is not None or to is not None
        async for page in self._pages(selection, bodies=whole, at_most=_CHANGED_PER_CALL):
            by_edge: defaultdict[tuple[str, str], list[WayBack]] = defaultdict(list)
            for letter in page:
                edge = inlet_of(to) if to else self._edge_back(letter)
                delay_ms = round(n_seen / per_second * 1000) if per_second else 0
                way = self._way_back(letter, edge, edit, fittings, delay_ms)
                by_edge[letter.stage, edge].append(way)
                n_seen += 1
            for (stage, edge), ways in by_edge.items():
                n = len(ways) if dry_run else await self._stored(stage).put_back(edge, ways)
                counts[Edge.parse(edge).target] += n
        return counts

    def _way_back(
        self, letter: DeadLetterRecord, edge: str, edit: Edit | None, fittings: dict[str, Fitting], delay_ms: int
    ) -> WayBack:
        header, stage = letter.header, Edge.parse(edge).target
        if edit is not None or stage != letter.stage:
            letter.needs_body()
        body, home = edit(letter) if edit else None, None
        if body is None and (letter.is_edited or stage != letter.stage):
            body = letter.body
        if body is not None:
            fitting = fittings.get(stage) or fittings.setdefault(stage, Fitting(self._plan, stage))
            header = replace(fitting.header_for(letter, body), packing="")
            home = self._homes.elsewhere(letter, edge, header, body)
        return WayBack(letter.id, put_back(header, letter.death).encode(), letter.run, delay_ms, body, home)

    def _edge_back(self, letter: DeadLetterRecord) -> str:
        edge = self._plan.edge_by_name.get(letter.edge)
        return edge.name if edge is not None and edge.target == letter.stage else inlet_of(letter.stage)

    async def remove(self, selection: Selection = EVERY, *, dry_run: bool = False) -> Mapping[str, int]:
        """Remove letters permanently; returns how many, by stage."""
        counts: Counter[str] = Counter()
        async for page in self._pages(selection, bodies=selection.needs_bodies):
            by_stage: defaultdict[str, list[str]] = defaultdict(list)
            for letter in page:
                by_stage[letter.stage].append(letter.id)
            for stage, ids in by_stage.items():
                counts[stage] += len(ids) if dry_run else await self._stored(stage).remove(ids)
        return counts

    async def fix(self, stage: str, bodies: Mapping[str, bytes], *, and_put_back: bool = False) -> Fixed:
        """Change the bodies of letters, by id, for their next attempt; `and_put_back` retries them in the same step.

        Otherwise the letters stay dead, with their new bodies beside the old ones, and letters with an equal body are
        not changed. Raises DoesNotFit before anything is changed.
        """
        fitting, changed, unchanged = Fitting(self._plan, stage), dict[str, bytes](), 0
        ways: defaultdict[str, list[WayBack]] = defaultdict(list)
        there: set[str] = set()
        for part in _parts(list(bodies)):
            for entry in await self._stored(stage).named(part):
                letter = DeadLetterRecord.read(stage, entry)
                body = bodies[letter.id]
                header = replace(fitting.header_for(letter, body), packing="")
                there.add(letter.id)
                unchanged += (is_same := is_same_json(body, letter.body))
                if and_put_back:
                    edge = self._edge_back(letter)
                    fresh, body = put_back(header, letter.death).encode(), letter.body if is_same else body
                    home = self._homes.elsewhere(letter, edge, header, body)
                    ways[edge].append(WayBack(letter.id, fresh, letter.run, 0, body, home))
                elif not is_same:
                    changed[letter.id] = body
        n = 0
        for edge, of_edge in ways.items():
            for some in _parts(of_edge):
                n += await self._stored(stage).put_back(edge, some)
        for pairs in _parts(list(changed.items())):
            n += sum(await self._stored(stage).edit(pairs))
        return Fixed(n, unchanged, tuple(letter_id for letter_id in bodies if letter_id not in there))

    async def restore(self, letters: Sequence[DeadLetterRecord]) -> Mapping[str, int]:
        """Add letters that were exported, from here or elsewhere; returns how many, by stage.

        One that still exists is not added, nor is the same one twice within an hour.
        """
        counts: Counter[str] = Counter()
        by_stage: defaultdict[str, list[Exported]] = defaultdict(list)
        for letter in letters:
            home = self._homes.of(self._edge_back(letter), letter.header, letter.body)
            by_stage[letter.stage].append(_exported(letter, home))
        for stage, exported in by_stage.items():
            name = self._plan.stage(stage).name
            for part in _parts(exported):
                counts[name] += await self._stored(name).restore(part)
        return counts

    def _stored(self, stage: str) -> StoredLetters:
        return stored_letters(self._broker, stage, self._silent)

    async def _pages(
        self, selection: Selection, *, bodies: bool, at_most: int = _PER_CALL
    ) -> AsyncIterator[list[DeadLetterRecord]]:
        stages = self._plan.consumers if selection.stage is None else (self._plan.stage(selection.stage),)
        names = [stage.name for stage in stages if not stage.is_source]
        with_bodies = _CLAIMED_PER_CALL if self._plan.claiming else _WITH_BODIES_PER_CALL
        per_call = min(at_most, with_bodies if bodies else _PER_CALL)
        if (named := await self._named(selection, bodies=bodies, most=per_call)) is not None:
            yield named
            return
        # A letter that is put back may die again at once: without a limit, this would never end.
        there_now = await numbers_of_letters(self._broker, names, self._silent)
        wanted = selection.limit
        for name in names:
            left, after = there_now[name], ""
            while left > 0 and wanted != 0:
                limit = min(left, per_call)
                entries = await self._stored(name).read(after=after, limit=limit, bodies=bodies)
                letters = [DeadLetterRecord.read(name, entry) for entry in entries]
                if selection.needs_bodies:
                    for letter in letters:
                        letter.needs_body()
                page = [letter for letter in letters if selection.includes(letter)][:wanted]
                yield page
                wanted = None if wanted is None else wanted - len(page)
                if not entries:
                    break
                left, after = left - len(entries), entries[-1].entry_id

    async def _named(self, selection: Selection, *, bodies: bool, most: int) -> list[DeadLetterRecord] | None:
        """Letters of one stage that are selected by their own ids, read without all others; None if they are not."""
        stage, ids = selection.stage, list(selection.ids)
        if stage is None or not 0 < len(ids) <= most or not all(map(is_letter_id, ids)):
            return None
        found = [DeadLetterRecord.read(stage, entry) for entry in await self._stored(stage).named(ids, bodies=bodies)]
        if len(found) < len(ids):  # the others may be ids of messages
            return None
        return [letter for letter in found if selection.includes(letter)][: selection.limit]


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[i : i + _CHANGED_PER_CALL] for i in range(0, len(items), _CHANGED_PER_CALL)]


def _exported(letter: DeadLetterRecord, home: int | None) -> Exported:
    info = {
        "reason": letter.reason,
        "error": letter.error,
        "error_type": letter.error_type,
        "traceback": letter.traceback,
        "attempts": letter.attempts,
        "first_ms": round(letter.first_at.timestamp() * 1000),
        "died_ms": letter.death.died_ms,
        "root_id": letter.root_id,
        "parent_id": letter.header.parent_id,
        "hops": letter.hops,
        "worker": letter.worker,
        "run": letter.run,
    }
    token = f"restored:{letter.stage}:{letter.id}"
    former_id = letter.id if home is None else str(LetterId.parse(letter.id)._replace(shard=home))
    return Exported(token, former_id, letter.edge, letter.plain_header.encode(), letter.body, orjson.dumps(info))
