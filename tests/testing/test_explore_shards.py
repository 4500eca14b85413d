"""Pipelines with several shards under random schedules and faults: each message counts once, wherever it lives."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from flowq import Context, Dedup, Pipeline, Rate, Retry, stage
from flowq.testing import SURVIVABLE, Duplicate, Failover, Harness, LostReply, explore
from tests.testing.seeds import SEEDS

N = 8
FEW_SEEDS = max(3, SEEDS // 3)  # each takes about a second


class Item(BaseModel):
    n: int
    left: int = 0

    @property
    def host(self) -> str:
        return f"host {self.n % 3}"


@stage(dedup=lambda item: f"{item.n} {item.left}")
async def around(item: Item, ctx: Context) -> Item | None:
    """Each item goes around as often as the rest of its number by 3."""
    if not item.left:
        return item
    for _ in range(2):
        ctx.emit(around, item.model_copy(update={"left": item.left - 1}), delay=0.5)
    return None


@stage(rate=Rate(10, by="host"), retry=Retry(attempts=3, base=1))
async def polite(item: Item, ctx: Context) -> Item:
    if item.n % 3 == 1 and ctx.attempt == 1:
        raise ConnectionError("not yet")
    return item


@stage(dedup=Dedup("n"), batch=4, linger=0.2)
async def load(items: list[Item]) -> None: ...


PIPELINE = Pipeline("shards", around >> polite >> load, shards=3)


async def the_items_go_around(h: Harness) -> None:
    await h.feed(around, *[Item(n=n, left=n % 3) for n in range(N)])
    await h.drain()

    handled = Counter(item.n for batch in h.outputs(load) for item in (batch if isinstance(batch, list) else [batch]))
    assert handled == Counter(range(N))
    assert not h.dead()
    assert h.balance()


@stage(place="spread")
async def enter(item: Item) -> Item:
    return item


@stage(place="spread")
async def halve(item: Item, ctx: Context) -> None:
    for left in (0, 1):
        ctx.emit(keep, item.model_copy(update={"left": left}))


@stage(place="spread")
async def keep(item: Item) -> None: ...


SPREAD = Pipeline("spread", enter >> halve, keep, shards=2)


async def the_items_are_halved(h: Harness) -> None:
    await h.feed(enter, *[Item(n=n) for n in range(N)])
    await h.drain()

    assert Counter((item.n, item.left) for item in h.outputs(keep)) == Counter((n, m) for n in range(N) for m in (0, 1))
    assert h.balance()


async def test_crossing_deduplicated_and_paced_messages_count_once() -> None:
    await explore(PIPELINE, the_items_go_around, seeds=FEW_SEEDS, workers=2)


async def test_each_message_counts_once_also_when_the_server_of_one_shard_fails_over() -> None:
    await explore(PIPELINE, the_items_go_around, seeds=FEW_SEEDS, start_seed=100, faults=SURVIVABLE | {Failover})


async def test_a_message_without_deduplication_counts_once_when_servers_fail_over() -> None:
    """Noticed without R1 at seed 0, without the gap check at 1, without R2 at 25, without epochs at 41."""
    await explore(SPREAD, the_items_are_halved, seeds=max(45, SEEDS), faults={Failover})


async def test_a_message_without_deduplication_counts_once_when_replies_are_lost_or_calls_come_twice() -> None:
    await explore(SPREAD, the_items_are_halved, seeds=FEW_SEEDS, faults={Duplicate, LostReply})
