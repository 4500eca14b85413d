"""Replies and requests that take long, or that Redis does not send in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from flowq import Pipeline, stage
from flowq.broker.connection import Link, UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerUnavailable
from tests.conformance.worker import IN, output
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.redis_server import KINDS, RedisServer
from tests.runtime.lab import Lab, Other

BYTES_PER_SECOND = 500_000
N, N_BYTES = 20, 200_000
SAFETY_SECONDS = 60.0


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture
async def narrow(server: RedisServer) -> AsyncIterator[Proxy]:
    """A slow link to the server."""
    async with Proxy(server.url) as proxy:
        proxy.narrow(BYTES_PER_SECOND)
        yield proxy


class Slurp:
    """A stage that takes large messages, and what it was given."""

    def __init__(self) -> None:
        self.runs: list[str] = []

        @stage(concurrency=N)
        async def slurp(other: Other) -> None:
            self.runs.append(other.text[:4])

        self.stage = slurp
        self.pipeline = Pipeline("slurps", slurp)
        self.messages = [Other(text=f"{n:04}" + "x" * N_BYTES) for n in range(N)]
        self.expected = {message.text[:4] for message in self.messages}


async def test_a_reply_that_takes_longer_than_its_deadline_arrives_while_its_bytes_do(
    server: RedisServer, narrow: Proxy
) -> None:
    near, far = Link(UrlDialer(server.url)), Link(UrlDialer(narrow.url))
    await near.call(b"SET", b"large", b"x" * BYTES_PER_SECOND, timeout_seconds=5.0)

    reply = await far.call(b"GET", b"large", timeout_seconds=0.4)

    assert len(reply) == BYTES_PER_SECOND
    await near.close()
    await far.close()


@pytest.mark.parametrize("server", ["bundled"], indirect=True)
async def test_a_request_that_takes_longer_than_its_deadline_is_sent_while_its_bytes_are(
    server: RedisServer, narrow: Proxy
) -> None:
    far = Link(UrlDialer(narrow.url))
    n_bytes = 4 * BYTES_PER_SECOND

    assert await far.call(b"SET", b"large", b"x" * n_bytes, timeout_seconds=0.4) == b"OK"

    assert await far.call(b"STRLEN", b"large", timeout_seconds=0.4) == n_bytes
    await far.close()


async def test_a_reply_that_stops_on_its_way_is_given_up(server: RedisServer, narrow: Proxy) -> None:
    near, far = Link(UrlDialer(server.url)), Link(UrlDialer(narrow.url))
    await near.call(b"SET", b"large", b"x" * BYTES_PER_SECOND, timeout_seconds=5.0)
    await far.call(b"PING", timeout_seconds=5.0)

    reading = asyncio.create_task(far.call(b"GET", b"large", timeout_seconds=0.4))
    await asyncio.sleep(0.3)
    narrow.stall("replies")

    with pytest.raises(BrokerUnavailable):
        async with asyncio.timeout(SAFETY_SECONDS):
            await reading
    await near.close()
    await far.close()


@pytest.mark.parametrize("server", ["bundled"], indirect=True)
async def test_large_messages_arrive_over_a_slow_link(
    server: RedisServer, narrow: Proxy, unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    slurp, lab, far_lab = Slurp(), Lab.at(server.url, unique_namespace), Lab.at(narrow.url, unique_namespace)
    await lab.push(slurp.pipeline, slurp.stage, *slurp.messages)

    async with far_lab.running(slurp.pipeline):
        await eventually(lambda: len(slurp.runs) >= N, seconds=SAFETY_SECONDS)

    assert sorted(slurp.runs) == sorted(slurp.expected), "each once"
    assert not caplog.records
    await lab.close()
    await far_lab.close()


async def test_a_server_that_limits_its_replies_is_asked_for_fewer_messages_at_a_time(
    server: RedisServer, unique_namespace: str
) -> None:
    slurp, lab = Slurp(), Lab.at(server.url, unique_namespace)
    await lab.push(slurp.pipeline, slurp.stage, *slurp.messages)
    await lab.command(b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 1mb 1")

    async with lab.running(slurp.pipeline):
        await eventually(lambda: slurp.expected <= set(slurp.runs), seconds=SAFETY_SECONDS)
        await eventually(lambda: is_settled(lab, slurp), seconds=SAFETY_SECONDS)

    assert (await lab.balance(slurp.pipeline))["slurp"].ok == N
    await lab.close()


async def is_settled(lab: Lab, slurp: Slurp) -> bool:
    return (await lab.balance(slurp.pipeline))["slurp"].outstanding == 0


async def test_one_message_of_each_edge_may_be_too_much_as_well(server: RedisServer, unique_namespace: str) -> None:
    edges = [f"{letter}>slurp" for letter in "abcdef"]
    broker = Broker(UrlDialer(server.url), Keys(unique_namespace, "lab"))
    await broker.ensure_groups(edges)
    for edge in edges:
        await broker.publish(edge, [output(edge, edge.encode() + b"x" * 300_000)])
    link = broker.link()
    await link.call(b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 1mb 1", timeout_seconds=5.0)
    reader = Reader(broker, edges)
    found: set[str] = set()

    async def is_complete() -> bool:
        try:
            found.update(delivery.edge for delivery in await reader.read("w", count=10, block_ms=20))
            found.update(delivery.edge for delivery in await reader.own_pending("w"))
        except BrokerUnavailable:
            pass
        return found == set(edges)

    await eventually(is_complete, seconds=SAFETY_SECONDS)
    await reader.close()
    await link.close()
    await broker.close()


async def test_what_a_cut_off_reply_had_carried_is_handed_out_in_parts(
    server: RedisServer, unique_namespace: str
) -> None:
    broker = Broker(UrlDialer(server.url), Keys(unique_namespace, "lab"))
    await broker.ensure_groups([IN])
    await broker.publish(IN, [output(IN, b"x" * N_BYTES) for _ in range(N)])
    link = broker.link()
    await link.call(
        b"XREADGROUP", b"GROUP", b"flowq", b"w", b"STREAMS", broker.keys.edge(IN), b">", timeout_seconds=5.0
    )
    await link.call(b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 1mb 1", timeout_seconds=5.0)
    reader = Reader(broker, [IN])
    found: list[bytes] = []

    async def is_complete() -> bool:
        try:
            found[:] = [delivery.entry_id for delivery in await reader.own_pending("w")]
        except BrokerUnavailable:
            return False
        return True

    await eventually(is_complete, seconds=SAFETY_SECONDS)

    assert len(found) == len(set(found)) == N
    await reader.close()
    await link.close()
    await broker.close()
