"""What lies in an outbox and is more than the Redis of its target accepts: it holds up no other channel, and stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from flowq.broker.client.connection import UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.forwarding import Forwarder
from flowq.broker.shards.publishing_out import PublishingOut
from tests.conformance.worker import OUT, output
from tests.eventually import eventually
from tests.redis_server import RedisServer

LIMIT_BYTES = 1_048_576
LIMITS = {"proto-max-bulk-len": 536_870_912, "client-query-buffer-limit": 1_073_741_824}


@pytest.fixture(params=sorted(LIMITS))
def limit(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    with RedisServer("bundled") as first, RedisServer("bundled") as second:
        yield [first, second]


@pytest.fixture
async def brokers(servers: list[RedisServer], unique_namespace: str) -> AsyncIterator[list[Broker]]:
    """Shards 0 and 2 on the first server, shard 1 on the second."""
    home = Keys(unique_namespace, "lab")
    brokers = [Broker(UrlDialer(servers[shard % 2].url), home.in_shard(shard)) for shard in range(3)]
    for each in brokers:
        each.shards = brokers
    yield brokers
    for each in brokers:
        await each.close()


async def lower(broker: Broker, limit: str) -> None:
    await broker.answer(b"CONFIG", b"SET", limit, LIMIT_BYTES)


async def send(brokers: list[Broker], to: int, *bodies: bytes) -> None:
    for body in bodies:
        await PublishingOut(brokers[0]).publish(f"{to}/{OUT}", [output(OUT, body)])


async def n_there(brokers: list[Broker], shard: int) -> int:
    n: int = await brokers[shard].answer(b"XLEN", brokers[shard].keys.edge(OUT))
    return n


async def test_entries_that_are_too_much_together_go_in_smaller_calls(brokers: list[Broker], limit: str) -> None:
    await send(brokers, 1, *[b"x" * 400_000] * 10)
    await lower(brokers[1], limit)

    forwarder = Forwarder(brokers[0])
    running = asyncio.create_task(forwarder.run())
    try:
        await eventually(lambda: _is(brokers, 1, 10))
        await forwarder.flush_until_certain()
        assert not running.done()
    finally:
        await _end(forwarder, running)


async def _is(brokers: list[Broker], shard: int, n: int) -> bool:
    return await n_there(brokers, shard) == n


async def test_a_message_that_is_too_large_is_named_stays_and_arrives_once_the_limit_is_raised(
    brokers: list[Broker], limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    large = output(OUT, b"x" * 2 * LIMIT_BYTES)
    await PublishingOut(brokers[0]).publish(f"1/{OUT}", [large])
    await lower(brokers[1], limit)

    forwarder = Forwarder(brokers[0])
    running = asyncio.create_task(forwarder.run())
    try:
        await eventually(lambda: "does not accept" in caplog.text)
        assert large.header.partition(b" ")[0].decode() in caplog.text
        assert limit in caplog.text
        await send(brokers, 2, b"a", b"b")
        await eventually(lambda: _is(brokers, 2, 2))
        assert not running.done()
        assert forwarder.in_transit == 1
        assert await n_there(brokers, 1) == 0

        await brokers[1].answer(b"CONFIG", b"SET", limit, LIMITS[limit])
        await forwarder.flush_until_certain()
        assert await n_there(brokers, 1) == 1
    finally:
        await _end(forwarder, running)


async def _end(forwarder: Forwarder, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
    await forwarder.close()
