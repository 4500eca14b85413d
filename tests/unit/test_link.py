"""A request that was never sent: its error says why, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.errors import BrokerUnavailable, ReplyCutOff, RequestCutOff

LARGE = b"x" * 2_000_000


class Transport(asyncio.Transport):
    """Raises whatever is written, as one of uvloop does after a reset."""

    def write(self, data: Any) -> None:
        raise RuntimeError("unable to perform operation")

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Dialer(UrlDialer):
    """Dials connections that cannot write. Before the first request the server says something, then perhaps leaves."""

    def __init__(self, said: bytes = b"", *, is_lost: bool = False) -> None:
        super().__init__("redis://127.0.0.1:1")
        self._said = said
        self._is_lost = is_lost

    async def dial(self) -> RedisProtocol:
        protocol = RedisProtocol()
        protocol.connection_made(Transport())
        if self._said:
            protocol.data_received(self._said)
        if self._is_lost:
            protocol.eof_received()
        return protocol


@pytest.mark.parametrize("value", [b"small", LARGE])
async def test_a_connection_that_was_lost_before_a_request_did_not_cut_the_request_off(value: bytes) -> None:
    with pytest.raises(BrokerUnavailable, match="cannot reach Redis") as unavailable:
        await Link(Dialer(is_lost=True)).call(b"SET", b"key", value, timeout_seconds=60)

    assert not isinstance(unavailable.value, ReplyCutOff | RequestCutOff)


async def test_a_request_that_cannot_be_written_leaves_no_call_that_waits_and_no_timer() -> None:
    logged: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context["message"]))

    with pytest.raises(BrokerUnavailable):
        await Link(Dialer()).call(b"PING", timeout_seconds=60)
    gc.collect()

    assert logged == []


async def test_a_server_that_refuses_a_client_before_it_asks_is_quoted() -> None:
    said = b"-ERR max number of clients reached\r\n"

    with pytest.raises(BrokerUnavailable, match="max number of clients") as unavailable:
        await Link(Dialer(said, is_lost=True)).call(b"PING", timeout_seconds=60)

    assert "maxclients" in unavailable.value.hint
