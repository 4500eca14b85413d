"""What is said about a server that does not answer: once that it is away and once that it is back."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flowq.broker.client.redis_errors import translate
from flowq.broker.client.retrying import retry_until_available
from flowq.world import World
from tests.eventually import eventually

FIRST, SECOND = "redis://one:6379/0", "redis://two:6379/0"


class Hasty(World):
    """Its pauses between two attempts are as short as they can be."""

    def __init__(self) -> None:
        super().__init__()
        self.random = lambda: -0.5


class Server:
    """Answers when it is there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.n_asked = 0
        self.is_there = False

    async def ask(self) -> None:
        self.n_asked += 1
        if not self.is_there:
            raise translate(ConnectionRefusedError("refused"), self.address)

    async def is_waited_for(self, n_calls: int) -> None:
        """Return when this many calls have been refused more than once."""
        await eventually(lambda: self.n_asked >= 3 * n_calls)


def waiting_for(server: Server, *names: str) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(retry_until_available(Hasty(), server.ask, what=name)) for name in names]


async def test_each_server_that_is_away_is_named_once_however_many_calls_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "flowq.broker")
    first, second = Server(FIRST), Server(f"{SECOND} (shard 4)")
    calls = [*waiting_for(first, "reading", "settling", "forwarding"), *waiting_for(second, "reading", "settling")]
    await first.is_waited_for(3)
    await second.is_waited_for(2)

    first.is_there = second.is_there = True
    await asyncio.gather(*calls)

    assert sorted(message.partition(": ")[2] or message for message in caplog.messages) == [
        f"Redis at {FIRST} is available again",
        f"Redis at {FIRST} is not available, retrying: refused",
        f"Redis at {SECOND} is available again",
        f"Redis at {SECOND} is not available, retrying: refused",
    ]


async def test_a_call_that_is_cancelled_while_it_waits_leaves_the_next_outage_to_be_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "flowq.broker")
    for _ in range(2):
        server = Server(FIRST)
        (call,) = waiting_for(server, "reading")
        await server.is_waited_for(1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    assert caplog.messages == [f"reading: Redis at {FIRST} is not available, retrying: refused"] * 2
