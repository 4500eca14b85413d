"""The number of shards on record: the first program writes it, and code that says another number is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.open import dialer_for, open_broker
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import (
    LAYOUT_FIELD,
    WrongLayout,
    WrongServers,
    agree_on_layout,
    read_layout,
    record_layout,
)
from flowq.settings import Settings
from tests.conformance.conftest import Command
from tests.conformance.worker import PLAN
from tests.redis_server import RedisServer


class Opened(Protocol):
    def __call__(self, n_shards: int, over: Dialer | None = None) -> Broker: ...


@pytest.fixture
async def opened(dialer: Dialer, keys: Keys) -> AsyncIterator[Opened]:
    """Open the brokers of so many shards."""
    brokers: list[Broker] = []

    def open_shards(n_shards: int, over: Dialer | None = None) -> Broker:
        brokers.append(with_shards(Broker(over or dialer, keys), n_shards))
        return brokers[-1]

    yield open_shards
    for broker in brokers:
        await close_shards(broker)


async def layouts(broker: Broker) -> list[bytes | None]:
    return [await each.answer(b"HGET", each.keys.heads, LAYOUT_FIELD) for each in broker.shards]


async def test_the_first_program_puts_its_number_on_record_in_every_shard(opened: Opened) -> None:
    broker = opened(4)
    assert await read_layout(broker) is None

    await agree_on_layout(broker, 4)

    assert await read_layout(broker) == 4
    assert await layouts(broker) == [b"4"] * 4


async def test_one_shard_leaves_no_record(opened: Opened, redis: Command, keys: Keys) -> None:
    await agree_on_layout(opened(1), 1)

    assert await redis(b"EXISTS", keys.plan, keys.heads) == 0


async def test_what_has_run_without_shards_is_not_divided_by_a_start(
    opened: Opened, redis: Command, keys: Keys
) -> None:
    await redis(b"HSET", keys.plan, b">fetch", b"{}")
    broker = opened(4)

    with pytest.raises(WrongLayout, match=r"4 shards in the code, 1 in Redis"):
        await agree_on_layout(broker, 4)

    assert await layouts(broker) == [None] * 4


async def test_code_with_another_number_is_refused_and_changes_nothing(opened: Opened) -> None:
    broker = opened(8)
    await agree_on_layout(broker, 8)

    with pytest.raises(WrongLayout, match=r"16 shards in the code, 8 in Redis") as raised:
        await agree_on_layout(broker, 16)
    assert "flowq apply lab" in raised.value.hint
    with pytest.raises(WrongLayout, match=r"1 shard in the code, 8 in Redis"):
        await agree_on_layout(broker, 1)

    assert await read_layout(broker) == 8


async def test_of_two_that_begin_at_once_one_wins(opened: Opened) -> None:
    found = await asyncio.gather(*(agree_on_layout(opened(n), n) for n in (4, 8, 4, 8)), return_exceptions=True)

    on_record = await read_layout(opened(8))
    assert [isinstance(each, WrongLayout) for each in found] == [n != on_record for n in (4, 8, 4, 8)]
    assert await layouts(opened(8)) == [b"%d" % (on_record or 0) if n < (on_record or 0) else None for n in range(8)]


async def test_a_record_that_was_interrupted_is_completed(opened: Opened) -> None:
    broker = opened(4)
    await agree_on_layout(broker, 4)
    await broker.shards[2].answer(b"HDEL", broker.shards[2].keys.heads, LAYOUT_FIELD)

    await agree_on_layout(broker, 4)

    assert await layouts(broker) == [b"4"] * 4


async def test_no_program_begins_while_shards_are_moved(opened: Opened) -> None:
    broker = opened(4)
    await agree_on_layout(broker, 4)
    await broker.shards[3].answer(b"HSET", broker.shards[3].keys.heads, LAYOUT_FIELD, "moving")

    with pytest.raises(WrongLayout, match="being moved") as raised:
        await agree_on_layout(broker, 4)

    assert "flowq apply lab" in raised.value.hint


async def test_a_new_number_is_put_into_force_everywhere(opened: Opened) -> None:
    await agree_on_layout(opened(2), 2)
    broker = opened(6)

    await record_layout(broker, 6)

    assert await read_layout(broker) == 6
    assert await layouts(broker) == [b"6"] * 6
    await agree_on_layout(broker, 6)


@pytest.mark.parametrize("stored", [b"", b"0", b"65", b"-1", b"4.0", b"\xb2", b"999999", b"moving"])
async def test_a_record_that_is_no_number_counts_as_none(opened: Opened, stored: bytes) -> None:
    broker = opened(1)
    await broker.answer(b"HSET", broker.keys.plan, "*shards", stored)

    assert await read_layout(broker) is None


# Opening


async def test_the_record_decides_how_many_shards_are_opened(redis_url: str, unique_namespace: str) -> None:
    settings = Settings.of_program(redis=redis_url, namespace=unique_namespace)
    async with open_broker("lab", settings) as broker:
        assert len(broker.shards) == 1
    async with open_broker("lab", settings, 4) as broker:
        assert [each.shard for each in broker.shards] == [0, 1, 2, 3]
        assert broker is broker.shards[0]
        await agree_on_layout(broker, 4)

    async with open_broker("lab", settings) as broker:
        assert len(broker.shards) == 4
    async with open_broker("lab", settings, 16) as broker:
        assert len(broker.shards) == 4


# Several servers


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RedisServer("debian")).url for _ in range(3)]


def over(urls: list[str], keys: Keys, n_shards: int = 5) -> Broker:
    return with_shards(Broker(dialer_for(" ".join(urls), keys.pipeline), keys), n_shards)


async def test_shards_lie_on_their_servers(servers: list[str], keys: Keys) -> None:
    broker = over(servers, keys)
    await agree_on_layout(broker, 5)

    alone = [Broker(dialer_for(url, "lab"), keys) for url in servers]
    has = [[await each.answer(b"EXISTS", keys.in_shard(k).heads) for k in range(5)] for each in alone]
    assert has == [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]
    for each in (*alone, *broker.shards):
        await each.close()


async def test_a_list_of_servers_that_has_changed_its_length_is_refused(servers: list[str], keys: Keys) -> None:
    broker, shorter = over(servers, keys), over(servers[:2], keys)
    await agree_on_layout(broker, 5)

    with pytest.raises(WrongServers, match="are on 3 servers, 2 are configured"):
        await read_layout(shorter)
    await close_shards(broker)
    await close_shards(shorter)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1)])
async def test_a_list_of_servers_in_another_order_is_refused_and_nothing_is_written(
    order: tuple[int, ...], servers: list[str], keys: Keys
) -> None:
    broker, other = over(servers, keys), over([servers[i] for i in order], keys)
    await agree_on_layout(broker, 5)

    with pytest.raises(WrongServers, match="the Redis URL says that it is on") as raised:
        await agree_on_layout(other, 5)

    assert "in which they were named at first" in raised.value.hint
    moved = next(k for k in range(3) if order[k] != k)
    assert await other.shards[moved].answer(b"EXISTS", other.shards[moved].keys.heads) == 0
    await close_shards(broker)
    await close_shards(other)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1)])
async def test_nothing_opens_a_list_of_servers_in_another_order(
    order: tuple[int, ...], servers: list[str], keys: Keys
) -> None:
    broker = over(servers, keys)
    await agree_on_layout(broker, 5)
    settings = Settings.of_program(redis=" ".join(servers[i] for i in order), namespace=keys.namespace)

    with pytest.raises(WrongServers, match="the Redis URL says that it is on"):
        async with open_broker(keys.pipeline, settings, 5, needs_first=False):
            pass
    await close_shards(broker)


class _Interrupted:
    """Connections that do something else before one of their requests: what another program does meanwhile."""

    def __init__(self, dialer: Dialer, before: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self.url, self.address, self.is_private = dialer.url, dialer.address, dialer.is_private
        self._dialer, self._n_left, self._meanwhile = dialer, before, meanwhile

    async def dial(self) -> Any:
        connection: Any = await self._dialer.dial()
        ask = connection.ask

        async def interrupted(*request: Any, **options: Any) -> list[Any]:
            self._n_left -= 1
            if self._n_left == 0:
                await self._meanwhile()
            answers: list[Any] = await ask(*request, **options)
            return answers

        connection.ask = interrupted
        return connection


@pytest.mark.parametrize("at", range(1, 13))
async def test_two_programs_that_start_at_once_agree(opened: Opened, dialer: Dialer, at: int) -> None:
    async def start_another() -> None:
        broker = opened(3)
        await agree_on_layout(broker, 3)
        await RecordedPlan(broker).record(PLAN)

    broker = opened(3, _Interrupted(dialer, at, start_another))

    await agree_on_layout(broker, 3)

    assert await layouts(broker) == [b"3"] * 3
