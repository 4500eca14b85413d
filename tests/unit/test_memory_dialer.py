"""Connections to the server in memory."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.client.memory import MemoryDialer

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize("n_turns", range(8))
async def test_a_call_that_is_cancelled_is_over_whatever_it_is_doing(n_turns: int) -> None:
    connection = await MemoryDialer().dial()
    call = asyncio.create_task(connection.ask(PING, 1, timeout_seconds=60))
    for _ in range(n_turns):
        await asyncio.sleep(0)

    was_under_way = call.cancel()
    await asyncio.wait([call])

    assert call.cancelled() == was_under_way
    await connection.close()


async def test_calls_one_after_the_other_let_other_tasks_run() -> None:
    connection, n_calls = await MemoryDialer().dial(), 0

    async def call_on_and_on() -> None:
        nonlocal n_calls
        while True:
            await connection.ask(PING, 1, timeout_seconds=60)
            n_calls += 1

    calling = asyncio.create_task(call_on_and_on())
    for _ in range(20):
        await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait([calling])

    assert 0 < n_calls < 20
    await connection.close()
