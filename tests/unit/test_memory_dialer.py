"""Connections to the server in memory."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.client.memory import MemoryDialer


@pytest.mark.parametrize("n_turns", range(8))
async def test_a_call_that_is_cancelled_is_over_whatever_it_is_doing(n_turns: int) -> None:
    connection = await MemoryDialer().dial()
    call = asyncio.create_task(connection.ask(b"*1\r\n$4\r\nPING\r\n", 1, timeout_seconds=60))
    for _ in range(n_turns):
        await asyncio.sleep(0)

    was_under_way = call.cancel()
    await asyncio.wait([call])

    assert call.cancelled() == was_under_way
    await connection.close()
