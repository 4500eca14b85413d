"""Replies that come late, twice, cut in pieces or to no command: none of them answers another call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flowq.broker.client.connection import Link, UrlDialer
from flowq.errors import BrokerUnavailable
from tests.conftest import Servers
from tests.eventually import eventually
from tests.faults.relay import Relay

SAFETY_SECONDS = 60.0
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Sends = Callable[[asyncio.StreamWriter, int], None]


@asynccontextmanager
async def answering(send: Sends) -> AsyncIterator[str]:
    """The URL of a server that calls `send` with the number of each command, to write what it answers."""
    writers: list[asyncio.StreamWriter] = []
    n = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n
        writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                for _ in range(data.count(b"*")):
                    send(writer, n := n + 1)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def number(link: Link) -> int:
    found: int = await link.call(b"INCR", timeout_seconds=SAFETY_SECONDS)
    return found


@pytest.mark.parametrize("extra", [b"+OK\r\n", b"$5\r\nhal", b"-ERR more\r\n", b"HTTP/1.1 400"])
def test_a_reply_to_no_command_ends_the_connection_and_answers_no_other_call(extra: bytes, run: Run) -> None:
    def send(writer: asyncio.StreamWriter, n: int) -> None:
        writer.write(b":%d\r\n" % n)
        asyncio.get_running_loop().call_soon(writer.write, extra if n == 1 else b"")

    async def scenario() -> None:
        async with answering(send) as url:
            link = Link(UrlDialer(url))
            with contextlib.suppress(BrokerUnavailable):  # where both arrive at once
                assert await number(link) == 1
                await asyncio.sleep(0.05)
                assert await number(link) == 2
            assert await number(link) in (2, 3)
            await link.close()

    run(scenario())


def test_a_surplus_reply_fails_the_call_it_comes_with(run: Run) -> None:
    async def scenario() -> None:
        async with answering(lambda writer, n: writer.write(b":%d\r\n" % n * 2)) as url:
            link = Link(UrlDialer(url))
            with pytest.raises(BrokerUnavailable, match="is not Redis"):
                await number(link)
            assert not link.is_open

    run(scenario())


def test_a_server_that_has_too_many_clients_is_not_taken_for_one_that_broke(run: Run) -> None:
    def send(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(b"-ERR max number of clients reached\r\n")
        writer.close()

    async def scenario() -> None:
        async with answering(send) as url:
            link = Link(UrlDialer(url))
            with pytest.raises(BrokerUnavailable, match="max number of clients") as unavailable:
                await number(link)
        assert "maxclients" in unavailable.value.hint

    run(scenario())


def test_replies_are_read_wherever_they_are_cut(run: Run) -> None:
    whole = b"*2\r\n$6\r\nab\r\ncd\r\n*1\r\n:-7\r\n"

    async def scenario() -> None:
        async def slowly(writer: asyncio.StreamWriter) -> None:
            for byte in whole:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)

        writing: list[asyncio.Task[None]] = []
        async with answering(lambda writer, _: writing.append(asyncio.create_task(slowly(writer)))) as url:
            link = Link(UrlDialer(url))
            for _ in range(3):
                assert await link.call(b"GET", timeout_seconds=SAFETY_SECONDS) == [b"ab\r\ncd", [-7]]
            await asyncio.gather(*writing)
            await link.close()

    run(scenario())


def test_the_reply_to_a_cancelled_call_answers_none_of_the_next(redis_server: Servers, run: Run) -> None:
    async def scenario() -> None:
        async with Relay(redis_server("bundled").url) as relay:
            link = Link(UrlDialer(relay.url))
            await link.call(b"PING", timeout_seconds=SAFETY_SECONDS)
            before = relay.bytes_from_clients
            cancelled = asyncio.ensure_future(link.call(b"BLPOP", b"nothing", 1, timeout_seconds=SAFETY_SECONDS))
            waiting = [
                asyncio.ensure_future(link.call(b"ECHO", str(n), timeout_seconds=SAFETY_SECONDS)) for n in range(20)
            ]
            await eventually(lambda: relay.bytes_from_clients > before)
            cancelled.cancel()

            assert await asyncio.gather(*waiting) == [b"%d" % n for n in range(20)]
            assert cancelled.cancelled()
            await link.close()

    run(scenario())


def test_a_large_reply_and_a_large_request_arrive_whole_while_other_calls_are_answered(
    redis_server: Servers, run: Run
) -> None:
    large = bytes(range(256)) * 250_000  # 64 MB

    async def scenario() -> None:
        link, other = (Link(UrlDialer(redis_server("bundled").url)) for _ in range(2))
        sending = asyncio.ensure_future(link.call(b"ECHO", large, timeout_seconds=SAFETY_SECONDS))
        n = 0
        while not sending.done():
            await other.call(b"PING", timeout_seconds=SAFETY_SECONDS)
            n += 1
        assert await sending == large
        assert n > 1
        await link.close()
        await other.close()

    run(scenario())
