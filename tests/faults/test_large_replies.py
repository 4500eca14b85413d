"""Replies and requests that take long, or that Redis does not send in one piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Self
from urllib.parse import urlsplit

import hiredis
import pytest
import redis

from flowq import Pipeline, stage
from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
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
DEADLINE_SECONDS, N_DEADLINES = 1.5, 2
LARGE = b"x" * int(BYTES_PER_SECOND * DEADLINE_SECONDS * N_DEADLINES)  # takes as long as two deadlines


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


async def test_a_reply_longer_than_its_deadline_arrives_while_its_bytes_do(server: RedisServer, narrow: Proxy) -> None:
    near, far = Link(UrlDialer(server.url)), Link(UrlDialer(narrow.url))
    await near.call(b"SET", b"large", LARGE, timeout_seconds=SAFETY_SECONDS)

    began = time.monotonic()
    reply = await far.call(b"GET", b"large", timeout_seconds=DEADLINE_SECONDS)

    assert reply == LARGE
    assert far.progressed_at > began, "progress can be observed"
    await near.close()
    await far.close()


@pytest.mark.parametrize("server", ["bundled"], indirect=True)
async def test_a_request_longer_than_its_deadline_is_sent_while_bytes_are(server: RedisServer, narrow: Proxy) -> None:
    far = Link(UrlDialer(narrow.url))
    n_bytes = 4 * BYTES_PER_SECOND

    assert await far.call(b"SET", b"large", b"x" * n_bytes, timeout_seconds=DEADLINE_SECONDS) == b"OK"

    assert await far.call(b"STRLEN", b"large", timeout_seconds=DEADLINE_SECONDS) == n_bytes
    await far.close()


async def test_a_reply_that_stops_on_its_way_is_given_up(server: RedisServer, narrow: Proxy) -> None:
    near, far = Link(UrlDialer(server.url)), Link(UrlDialer(narrow.url))
    await near.call(b"SET", b"large", LARGE, timeout_seconds=SAFETY_SECONDS)
    await far.call(b"PING", timeout_seconds=60)

    before = narrow.n_passed["replies"]
    reading = asyncio.create_task(far.call(b"GET", b"large", timeout_seconds=DEADLINE_SECONDS))
    await eventually(lambda: narrow.n_passed["replies"] > before)
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
        await eventually(lambda: len(slurp.runs) >= N)

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
        await eventually(lambda: slurp.expected <= set(slurp.runs))
        await eventually(lambda: is_settled(lab, slurp.pipeline))

    assert (await lab.balance(slurp.pipeline))["slurp"].ok == N
    await lab.close()


async def is_settled(lab: Lab, pipeline: Pipeline) -> bool:
    return (await lab.balance(pipeline))["slurp"].outstanding == 0


async def test_a_message_that_is_too_large_to_be_read_waits_and_its_neighbours_run(
    server: RedisServer, unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[str] = []

    @stage(concurrency=2, max_bytes=10_000_000)
    async def slurp(other: Other) -> None:
        runs.append(other.text[:4])

    pipeline, lab = Pipeline("slurps", slurp), Lab.at(server.url, unique_namespace)
    texts = [f"{n:04}" + "x" * (3_000_000 if n == 3 else 10) for n in range(10)]
    await lab.push(pipeline, slurp, *[Other(text=text) for text in texts])
    limit = b"CONFIG", b"SET", b"client-output-buffer-limit"
    await lab.command(*limit, b"normal 1mb 1mb 1")

    async with lab.running(pipeline):
        await eventually(lambda: len(set(runs)) == 9)
        await lab.push(pipeline, slurp, Other(text="late"))
        await eventually(lambda: "late" in runs)
        assert "0003" not in runs
        assert "client-output-buffer-limit" in caplog.text
    await lab.command(*limit, b"normal 0 0 0")
    async with lab.running(pipeline):
        await eventually(lambda: "0003" in runs)
        await eventually(lambda: is_settled(lab, pipeline))

    assert (await lab.balance(pipeline))["slurp"].ok == 11
    await lab.close()


async def test_one_message_of_each_edge_may_be_too_much_as_well(server: RedisServer, unique_namespace: str) -> None:
    edges = [f"{letter}>slurp" for letter in "abcdef"]
    broker = Broker(UrlDialer(server.url), Keys(unique_namespace, "lab"))
    await Edges(broker).ensure_groups(edges)
    for edge in edges:
        await Publishing(broker).publish(edge, [output(edge, edge.encode() + b"x" * 300_000)])
    link = broker.link()
    await link.call(b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 1mb 1", timeout_seconds=60)
    reader = Reader(broker, edges)
    found: set[str] = set()

    async def is_complete() -> bool:
        try:
            found.update(row[0].edge for row in await reader.read("w", count=10, block_ms=20))
            found.update(delivery.edge for delivery in await reader.own_pending("w"))
        except BrokerUnavailable:
            pass
        return found == set(edges)

    await eventually(is_complete)
    await reader.close()
    await link.close()
    await broker.close()


async def test_what_a_cut_off_reply_carried_is_handed_out_in_parts(server: RedisServer, unique_namespace: str) -> None:
    broker = Broker(UrlDialer(server.url), Keys(unique_namespace, "lab"))
    await Edges(broker).ensure_groups([IN])
    await Publishing(broker).publish(IN, [output(IN, b"x" * N_BYTES) for _ in range(N)])
    link = broker.link()
    await link.call(b"XREADGROUP", b"GROUP", b"flowq", b"w", b"STREAMS", broker.keys.edge(IN), b">", timeout_seconds=60)
    await link.call(b"CONFIG", b"SET", b"client-output-buffer-limit", b"normal 1mb 1mb 1", timeout_seconds=60)
    reader = Reader(broker, [IN])
    found: list[bytes] = []

    async def is_complete() -> bool:
        try:
            found[:] = [delivery.entry_id for delivery in await reader.own_pending("w")]
        except BrokerUnavailable:
            return False
        return True

    await eventually(is_complete)

    assert len(found) == len(set(found)) == N
    await reader.close()
    await link.close()
    await broker.close()


class ServerThatBoundsReads:
    """Passes commands on to a real server, and knows MAXSIZE of XREADGROUP as Redis 8.10 does: `sizes` that it got."""

    def __init__(self, redis_url: str) -> None:
        self._socket_path = urlsplit(redis_url).path
        self.sizes: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Once all clients have left."""
        self._server.close()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        redis_reader, redis_writer = await asyncio.open_unix_connection(self._socket_path)
        replies = asyncio.create_task(self._pass_on(redis_reader, writer))
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while isinstance(command := parser.gets(), list):
                redis_writer.write(hiredis.pack_command(tuple(self._older(command))))
        redis_writer.close()
        await replies
        writer.close()
        await writer.wait_closed()

    def _older(self, command: list[bytes]) -> list[bytes]:
        """What has an older server do the same: MAXSIZE is taken out, and refused where it is 0."""
        if b"MAXSIZE" not in command:
            return command
        at = command.index(b"MAXSIZE")
        self.sizes.append(int(command[at + 1]))
        if self.sizes[-1] == 0:
            return [b"EVAL", b"return redis.error_reply('ERR MAXSIZE must be a positive integer')", b"0"]
        return command[:at] + command[at + 2 :]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)


async def test_a_server_that_can_bound_reads_by_bytes_is_asked_to(server: RedisServer, unique_namespace: str) -> None:
    async with ServerThatBoundsReads(server.url) as bounding:
        broker = Broker(UrlDialer(bounding.url), Keys(unique_namespace, "lab"))
        reader = Reader(broker, [IN])
        await Edges(broker).ensure_groups([IN])
        await Publishing(broker).publish(IN, [output(IN, b"1")])

        assert [row[3] for row in await reader.read("w", count=10, block_ms=20)] == [b"1"]
        assert len(await reader.own_pending("w")) == 1

        probe, *sizes = bounding.sizes
        assert probe == 0
        assert len(sizes) >= 3
        assert set(sizes) == {8_000_000}
        await reader.close()
        await broker.close()


async def test_a_server_that_cannot_bound_reads_by_bytes_is_asked_once_for_each_connection(
    server: RedisServer, unique_namespace: str
) -> None:
    broker = Broker(UrlDialer(server.url), Keys(unique_namespace, "lab"))
    reader = Reader(broker, [IN])
    await Edges(broker).ensure_groups([IN])
    await Publishing(broker).publish(IN, [output(IN, b"1")])

    assert [row[3] for row in await reader.read("w", count=10, block_ms=20)] == [b"1"]
    for _ in range(3):
        assert await reader.read("w", count=10, block_ms=1) == []

    with redis.Redis.from_url(server.url) as client:
        reads = client.info("commandstats")["cmdstat_xreadgroup"]
    assert (reads["calls"], reads["failed_calls"]) == (1 + 4, 1)
    await reader.close()
    await broker.close()
