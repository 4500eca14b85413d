"""Everything that a stage can ask for, in one pipeline, under random schedules and faults: each message counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

from pydantic import BaseModel

from flowq import Context, Dedup, Pipeline, Rate, Reject, Retry, SourceContext, source, stage
from flowq.testing import ALL, Harness, explore
from tests.testing.seeds import SEEDS

N = 12


class Item(BaseModel):
    n: int
    left: int = 0

    @property
    def host(self) -> str:
        return f"host {self.n % 3}"


class Letter(BaseModel):
    n: int


@source
async def items(ctx: SourceContext) -> AsyncIterator[Item]:
    for n in range(int(ctx.cursor or 0), N):
        yield Item(n=n)
        ctx.save(str(n + 1))


@stage
def spread(item: Item) -> Iterator[Item | Letter]:
    """Each item goes around as often as the rest of its number by 3, and is a letter as well."""
    yield Item(n=item.n, left=item.n % 3)
    yield Letter(n=item.n)


@stage(concurrency=3)
async def around(item: Item, ctx: Context) -> None:
    if item.left:
        ctx.emit(around, item.model_copy(update={"left": item.left - 1}), delay=0.5)
    else:
        ctx.emit(once, item)
        ctx.emit(once, item)


@stage(dedup="n")
async def once(item: Item) -> Item:
    return item


@stage(rate=Rate(10, by="host", concurrency=1), retry=Retry(attempts=3, base=1))
async def polite(item: Item, ctx: Context) -> Item:
    if item.n % 3 == 1 and ctx.attempt == 1:
        raise ConnectionError("not yet")
    if item.n == 3:
        raise Reject("never")
    return item


@stage(dedup=Dedup("n", keep="last"), batch=4, linger=0.2)
async def load(items: list[Item]) -> None: ...


@stage(ack="manual")
async def sign(letter: Letter, ctx: Context) -> None:
    ctx.emit(post, letter)
    await ctx.ack()


@stage(ack="first")
async def post(letter: Letter) -> None: ...


features = Pipeline("features", items >> spread >> (around | sign), around, once >> polite >> load, post)
in_shards = Pipeline("features", items >> spread >> (around | sign), around, once >> polite >> load, post, shards=3)


async def run(h: Harness) -> None:
    await h.run(items)
    await h.drain()

    kept = [n for n in range(N) if n != 3]
    assert Counter(item.n for item in h.outputs(once)) == Counter(range(N))
    assert Counter(item.n for item in h.outputs(polite)) == Counter(kept)
    assert Counter(item.n for item in h.outputs(load)) == Counter(kept)
    assert Counter(letter.n for letter in h.outputs(sign)) == Counter(range(N))
    assert len(h.dead(polite)) == 1


async def test_each_message_counts_once_whatever_happens() -> None:
    await explore(features, run, seeds=SEEDS)


async def test_each_message_counts_once_in_several_shards() -> None:
    await explore(in_shards, run, seeds=SEEDS)


async def test_the_invariants_hold_also_when_messages_are_damaged_or_forgotten() -> None:
    async def feed(h: Harness) -> None:
        await h.run(items)
        await h.drain()

    await explore(features, feed, seeds=SEEDS, faults=ALL)
