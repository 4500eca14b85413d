"""Pipelines with several shards under random schedules and faults: each message counts once, wherever it lives."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from flowq import Context, Dedup, Pipeline, Rate, Retry, stage
from flowq.testing import Harness, explore
from tests.testing.seeds import SEEDS

N = 8


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


async def test_crossing_deduplicated_and_paced_messages_count_once() -> None:
    await explore(PIPELINE, the_items_go_around, seeds=SEEDS, workers=2)
