"""Pushes that end early or are repeated: it is known what is stored, and nothing is stored twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from copy import copy

import pytest
from pydantic import BaseModel

from flowq import Context, Dedup, Pipeline, Publisher, QueueFull, stage
from flowq.broker.publishing import Publishing
from flowq.delivery.pushed import Pushed
from flowq.delivery.settlement import Output
from flowq.errors import EncodeError, UsageError
from flowq.sync_publisher import SyncPublisher
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.runtime.lab import Lab


class Item(BaseModel):
    n: int
    guid: str | int | None = None
    text: str = ""


def items(n: int) -> list[Item]:
    return [Item(n=i, text="x" * 2000) for i in range(n)]


@stage(maxsize_bytes=200_000)
async def small(item: Item) -> None: ...


@stage(maxsize=1500)
async def counted(item: Item) -> None: ...


@stage
async def roomy(item: Item) -> None: ...


pipeline = Pipeline("p", small, counted, roomy)


async def stored(lab: Lab, name: str) -> int:
    return (await lab.balance(pipeline))[name].outstanding


async def emptied(lab: Lab, name: str) -> list[int]:
    """The numbers of what waits for a stage, which is then empty."""
    stream = lab.broker(pipeline).keys.edge(f">{name}")
    entries = await lab.command(b"XRANGE", stream, b"-", b"+")
    await lab.command(b"XTRIM", stream, b"MAXLEN", 0)
    return [Item.model_validate_json(fields[3]).n for _, fields in entries]


@pytest.mark.parametrize("name", ["small", "counted"])
async def test_a_push_that_finds_no_room_half_way_says_how_many_are_stored_and_resumes_behind_them(
    name: str, redis_url: str, unique_namespace: str
) -> None:
    lab = Lab.at(redis_url, unique_namespace)
    left, found = items(3000), list[int]()
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        while left:
            try:
                await publisher.push_many(name, left, wait=False)
                left = []
            except QueueFull as full:
                left = left[full.stored :]
            found += await emptied(lab, name)
    await lab.close()

    assert found == list(range(3000))


async def test_the_same_push_made_again_with_its_id_stores_nothing_twice(redis_url: str, unique_namespace: str) -> None:
    lab = Lab.at(redis_url, unique_namespace)
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        found = list[int]()
        while len(found) < 3000:
            with suppress(QueueFull):
                await publisher.push_many("counted", items(3000), id="import of today", wait=False)
            found += await emptied(lab, "counted")
        assert found == list(range(3000))
        with pytest.raises(QueueFull):
            await publisher.push_many("roomy", _ends_in(QueueFull("one of the caller's"), 1200), id="a")
        assert await stored(lab, "roomy") == 1000
        pushed = await publisher.push_many("roomy", items(3000), id="a")
        assert (pushed.appended, await stored(lab, "roomy")) == (3000, 3000)
    await lab.close()


async def test_a_push_with_the_id_of_a_shorter_one_leaves_nothing_out(redis_url: str, unique_namespace: str) -> None:
    lab = Lab.at(redis_url, unique_namespace)
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        await publisher.push_many("roomy", items(1500), id="grows")
        await publisher.push_many("roomy", items(1800), id="grows")
    assert set(await emptied(lab, "roomy")) == set(range(1800))
    await lab.close()


def _ends_in(error: Exception, n: int) -> Iterator[Item]:
    yield from items(n)
    raise error


async def test_a_message_and_an_iterable_that_fail_tell_how_many_passed(redis_url: str, unique_namespace: str) -> None:
    lab = Lab.at(redis_url, unique_namespace)
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        with pytest.raises(EncodeError) as refused:
            await publisher.push_many("roomy", [*items(1500), "no item"])  # type: ignore[list-item]
        assert refused.value.stored == await stored(lab, "roomy") == 1000
        with pytest.raises(ValueError, match="mine") as raised:
            await publisher.push_many("roomy", _ends_in(ValueError("mine"), 2500))
        assert raised.value.__notes__ == ["2,000 messages before it have been pushed"]
    await lab.close()


class Taken(Iterator[Item]):
    """Messages, and how many of them have been taken."""

    def __init__(self, n: int, error: Exception | None = None) -> None:
        self._left, self._error, self.n = iter(items(n)), error, 0

    def __next__(self) -> Item:
        item = next(self._left, None)
        if item is None:
            raise self._error or StopIteration
        self.n += 1
        return item


@pytest.mark.parametrize("error", [None, ValueError("mine")])
async def test_messages_are_taken_while_redis_stores_those_before_and_all_are_stored_in_order(
    error: Exception | None, proxy: Proxy, far_lab: Lab
) -> None:
    taken = Taken(2500, error)
    async with Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        await publisher.push("roomy", Item(n=-1))
        proxy.stall("replies")
        push = asyncio.create_task(publisher.push_many("roomy", taken))
        await eventually(lambda: taken.n > 2000)
        proxy.resume()
        if error is None:
            assert await push == Pushed(2500, 0)
        else:
            with pytest.raises(ValueError, match="mine") as raised:
                await push
            assert raised.value.__notes__ == ["2,000 messages before it have been pushed"]

    assert await emptied(far_lab, "roomy") == [-1, *range(2500 if error is None else 2000)]


async def test_a_push_that_is_cancelled_has_stored_whole_calls_and_leaves_the_publisher_usable(
    proxy: Proxy, far_lab: Lab
) -> None:
    taken = Taken(5000)
    async with Publisher(pipeline, redis=proxy.url, namespace=far_lab.namespace) as publisher:
        await publisher.push("roomy", Item(n=-1))
        proxy.stall("replies")
        push = asyncio.create_task(publisher.push_many("roomy", taken))
        await eventually(lambda: taken.n > 2000)
        push.cancel()
        with pytest.raises(asyncio.CancelledError):
            await push
        proxy.resume()
        await publisher.push("roomy", Item(n=-2))

    assert sorted(await emptied(far_lab, "roomy")) in ([-2, -1], [-2, -1, *range(1000)])


def test_the_publisher_without_asyncio_tells_it_too(redis_url: str, unique_namespace: str) -> None:
    with (
        SyncPublisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher,
        pytest.raises(QueueFull) as full,
    ):
        publisher.push_many("counted", items(3000), wait=False, id="once")

    assert full.value.stored == 2000


async def test_a_push_says_whether_its_message_is_new(redis_url: str, unique_namespace: str) -> None:
    @stage(dedup="n")
    async def once(item: Item) -> None: ...

    pipeline = Pipeline("p", once, roomy)
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        roomy_ids = [await publisher.push(roomy, Item(n=1), id=id_) for id_ in ("a", "b", "a", None, None)]
        once_ids = [
            await publisher.push(once, Item(n=n), id=id_) for n, id_ in ((1, "a"), (1, "b"), (2, "c"), (2, "c"))
        ]

    assert [pushed.is_new for pushed in roomy_ids] == [True, True, False, True, True]
    assert [pushed.is_new for pushed in once_ids] == [True, False, True, False]  # "b" is dropped by `dedup`
    assert [copy(pushed).is_new for pushed in roomy_ids] == [pushed.is_new for pushed in roomy_ids]


async def test_of_many_that_push_one_id_at_once_it_is_new_for_a_single_one(
    redis_url: str, unique_namespace: str
) -> None:
    async def push() -> bool:
        async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
            return (await publisher.push(roomy, Item(n=1), id="order-17")).is_new

    assert sum(await asyncio.gather(*(push() for _ in range(20)))) == 1


async def test_an_id_that_an_earlier_version_has_stored_is_not_new(lab: Lab) -> None:
    await Publishing(lab.broker(pipeline)).publish(
        ">roomy", [Output(">roomy", b"h", b"{}")], token="push:>roomy:order-17"
    )
    async with Publisher(pipeline, redis=lab.dialer.url, namespace=lab.namespace) as publisher:
        assert not (await publisher.push(roomy, Item(n=1), id="order-17")).is_new


async def test_ids_that_differ_in_white_space_alone_are_two_messages(redis_url: str, unique_namespace: str) -> None:
    async with Publisher(pipeline, redis=redis_url, namespace=unique_namespace) as publisher:
        given = [await publisher.push("roomy", Item(n=1), id=id_) for id_ in ("order 42", "order_42", "order 42")]
        with pytest.raises(UsageError, match="longer than 256 bytes"):
            await publisher.push("roomy", Item(n=1), id="x" * 1000)
        with pytest.raises(UsageError, match="empty"):
            await publisher.push("roomy", Item(n=1), id="")

    assert given == ["order%2042", "order_42", "order%2042"]
    lab = Lab.at(redis_url, unique_namespace)
    assert await stored(lab, "roomy") == 2
    await lab.close()


@pytest.mark.parametrize("dedup", ["guid", Dedup("guid", scope="forever", ttl="1h")], ids=["run", "ttl"])
async def test_a_message_without_a_key_passes_and_keys_differ_by_type(dedup: str | Dedup, any_lab: Lab) -> None:
    ran: list[int] = []

    @stage
    async def first(item: Item, ctx: Context) -> Item:
        await ctx.emit(keep, item, delay=0.001)
        return item

    @stage(dedup=dedup)
    async def keep(item: Item) -> None:
        ran.append(item.n)

    keys = [None, None, "1", 1, 1, "1", "None", None]
    summary = await any_lab.run(Pipeline("p", first >> keep), *[Item(n=n, guid=key) for n, key in enumerate(keys)])

    counts = {n: ran.count(n) for n in range(len(keys))}
    assert {n: counts[n] for n in (0, 1, 7)} == {0: 2, 1: 2, 7: 2}
    assert (counts[2] + counts[5], counts[3] + counts[4], counts[6]) == (1, 1, 1)
    assert summary.stages["keep"].duplicates == 2 * len(keys) - 9
