"""The messages that a stage has settled and kept: lists them, and runs them again."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flowq.broker import scripts
from flowq.broker.entries import Entries
from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.letter import content_of, json_or
from flowq.delivery.edge import inlet_of
from flowq.delivery.history import replayed
from flowq.delivery.message import Header
from flowq.delivery.stored import entry_ms
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan, StagePlan

_PER_CALL, _CLAIMED_PER_CALL = 200, 20


class NotKept(UsageError):
    """A stage that does not keep settled messages."""

    code = "FQ209"


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A settled message, when it was settled, and its header for a replay."""

    id: str
    header: Header
    settled_at: datetime
    message: Any


class Kept:
    """What one stage has kept. Raises NotFound for an unknown stage, NotKept for one without keep=."""

    def __init__(self, plan: Plan, broker: Broker, stage: str) -> None:
        self._stage: StagePlan = plan.stage(stage)
        self._broker = broker
        if self._stage.keep is None:
            raise NotKept(
                f"{stage} does not keep settled messages",
                hint=f'@stage(keep="1h") on {stage} keeps the last hour, keep=1000 the last thousand',
            )

    async def replay(
        self,
        *,
        since: datetime | None = None,
        where: Sequence[Condition] = (),
        limit: int | None = None,
        dry_run: bool = False,
    ) -> int:
        """Put kept messages on the inlet of their stage, to be run again; returns how many.

        Each moves in one atomic step and keeps its id, so that a repeated call runs nothing twice. After its run it is
        kept again. What was settled after the call began is not replayed.
        """
        n, edge, name = 0, inlet_of(self._stage.name), self._stage.name
        pages = [self._pages(shard, since, bodies=bool(where)) for shard in self._broker.shards]
        async for shard, page in _by_time(dict(zip(self._broker.shards, pages, strict=True))):
            chosen = [kept for kept in page if all(condition.holds(kept.message) for condition in where)]
            chosen = chosen[: None if limit is None else limit - n]
            if dry_run or not chosen:
                n += len(chosen)
            else:
                flat = [word for kept in chosen for word in (kept.id, replayed(kept.header).encode())]
                names = [shard.keys.stats, shard.keys.kept(name), shard.keys.edge(edge)]
                n += await shard.script(scripts.PUT_BACK_KEPT, names, edge, *flat)
            if n == limit:
                break
        return n

    async def _pages(self, shard: Broker, since: datetime | None, *, bodies: bool) -> AsyncIterator[list[KeptMessage]]:
        now_ms = (await Runs(shard).partial_snapshot()).now_ms
        after = f"{round(since.timestamp() * 1000) - 1}-{2**64 - 1}" if since else ""
        kept = Entries(shard, shard.keys.kept(self._stage.name))
        limit = _CLAIMED_PER_CALL if bodies and self._stage.claim_above is not None else _PER_CALL
        while True:
            entries = await kept.after(after, limit=limit, bodies="all" if bodies else "none")
            if bodies:
                entries = await kept.with_contents(entries)
            page = [_kept(self._stage.name, entry) for entry in entries]
            yield [one for one in page if one.settled_at.timestamp() * 1000 <= now_ms]
            if len(entries) < limit or page[-1].settled_at.timestamp() * 1000 > now_ms:
                return
            after = entries[-1].entry_id


async def _by_time(
    pages_of: Mapping[Broker, AsyncIterator[list[KeptMessage]]],
) -> AsyncIterator[tuple[Broker, list[KeptMessage]]]:
    """The messages of all shards, what was settled earlier first. With one shard these are its pages."""
    if len(pages_of) == 1:
        ((shard, pages),) = pages_of.items()
        async for page in pages:
            yield shard, page
        return
    waiting = {shard: deque(await _next_of(pages)) for shard, pages in pages_of.items()}
    while waiting := {shard: page for shard, page in waiting.items() if page}:
        shard = min(waiting, key=lambda each: waiting[each][0].settled_at)
        others = [page[0].settled_at for each, page in waiting.items() if each is not shard]
        rest = waiting[shard]
        first = [rest.popleft()]
        while rest and (not others or rest[0].settled_at <= min(others)):
            first.append(rest.popleft())
        yield shard, first
        if not rest:
            rest.extend(await _next_of(pages_of[shard]))


async def _next_of(pages: AsyncIterator[list[KeptMessage]]) -> list[KeptMessage]:
    async for page in pages:  # Python 3.11 ends `await anext(pages, [])` with SystemError once it has waited for I/O
        return page
    return []


def _kept(stage: str, entry: DeadEntry) -> KeptMessage:
    try:
        header = Header.decode(entry.header)
    except ValueError:  # added by another program
        header = Header.entering(f"{stage}:{entry.entry_id}")
    settled_at = datetime.fromtimestamp(entry_ms(entry.entry_id) / 1000, UTC)
    content = content_of(header, entry.body or b"") if entry.content is None else entry.content
    return KeptMessage(entry.entry_id, header, settled_at, json_or(None, content))
