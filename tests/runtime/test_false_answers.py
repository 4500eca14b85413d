"""Something at the address of Redis that is not Redis: the caller gets an error, and nothing counts as done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from flowq import Pipeline, Publisher, stage
from flowq.broker.inspection.health import ServerHealth
from flowq.broker.runs import Runs
from flowq.errors import BrokerUnavailable
from tests.runtime.lab import Item, Lab


@stage
async def take(item: Item) -> None: ...


pipeline = Pipeline("p", take)


@pytest.fixture(params=[b"+OK\r\n", b"+QUEUED\r\n", b":7\r\n"], ids=["ok", "queued", "number"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server that gives the same answer to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while command := await reader.read(1 << 16):
                writer.write(request.param * (command.startswith(b"*") + command.count(b"\r\n*")))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


async def test_a_push_is_not_taken_for_stored(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="is not Redis"):
        async with Publisher(pipeline, redis=url) as publisher:
            await publisher.push(take, Item(n=1))


async def test_a_state_is_not_made_up(url: str) -> None:
    lab = Lab.at(url, "flowq")
    with pytest.raises(BrokerUnavailable, match="is not Redis"):
        await Runs(lab.broker(pipeline)).snapshot([">take"], ["take"])
    with pytest.raises(BrokerUnavailable, match="is not Redis"):
        await ServerHealth(lab.broker(pipeline)).examine()
    await lab.close()
