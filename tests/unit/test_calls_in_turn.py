"""Calls in turn: one is under way while the next is prepared, and none is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from flowq.broker.calls_in_turn import CallsInTurn


class Server:
    """Answers a call when it is told to, and knows which are under way."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.answers: dict[int, asyncio.Future[int]] = {}

    def answer(self, n: int) -> None:
        self.answers.setdefault(n, asyncio.Future()).set_result(n)

    def fail(self, n: int) -> None:
        self.answers.setdefault(n, asyncio.Future()).set_exception(OSError(f"call {n}"))

    async def call(self, n: int) -> int:
        self.begun.append(n)
        try:
            return await self.answers.setdefault(n, asyncio.Future())
        except asyncio.CancelledError:
            self.cancelled.append(n)
            raise


async def make(calls: CallsInTurn[int], server: Server, *numbers: int, error: BaseException | None = None) -> None:
    """Make some calls, then fail."""
    async with calls:
        for n in numbers:
            await calls.start(server.call(n))
        if error is not None:
            raise error


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    yield Server()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_call_is_under_way_while_the_next_is_prepared_and_the_next_waits_for_it(server: Server) -> None:
    async with CallsInTurn[int]() as calls:
        await calls.start(server.call(1))
        assert (server.begun, calls.results) == ([1], [])

        second = asyncio.create_task(calls.start(server.call(2)))
        await asyncio.sleep(0)
        assert server.begun == [1]
        server.answer(1)
        await second
        assert (server.begun, calls.results) == ([1, 2], [1])

        server.answer(2)
    assert calls.results == [1, 2]


async def test_a_call_that_fails_ends_it_and_the_next_is_not_made(server: Server) -> None:
    calls = CallsInTurn[int]()
    server.answer(1)
    server.fail(2)
    with pytest.raises(OSError, match="call 2"):
        await make(calls, server, 1, 2, 3)

    assert (server.begun, calls.results) == ([1, 2], [1])


async def test_a_caller_that_fails_learns_first_what_became_of_the_calls_before(server: Server) -> None:
    calls = CallsInTurn[int]()
    server.answer(1)
    with pytest.raises(ValueError, match="of the caller"):
        await make(calls, server, 1, error=ValueError("of the caller"))
    assert calls.results == [1]

    server.fail(2)
    with pytest.raises(OSError, match="call 2") as failed:
        await make(calls, server, 2, error=ValueError("of the caller"))
    assert isinstance(failed.value.__context__, ValueError)


@pytest.mark.parametrize("waits_in_turn", [True, False])
async def test_a_cancelled_caller_cancels_the_call_under_way_and_waits_for_its_end(
    waits_in_turn: bool, server: Server
) -> None:
    ended: list[int] = []

    async def call_that_ends_slowly() -> int:
        try:
            return await server.call(1)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append(1)

    async def work() -> None:
        async with CallsInTurn[int]() as calls:
            await calls.start(call_that_ends_slowly())
            await (calls.start(server.call(2)) if waits_in_turn else asyncio.Event().wait())

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (server.begun, server.cancelled, ended) == ([1], [1], [1])


@pytest.mark.parametrize("end", [asyncio.CancelledError, SystemExit])
async def test_an_error_of_a_call_that_is_cancelled_with_its_caller_is_not_logged(
    end: type[BaseException], server: Server
) -> None:
    logged: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))

    async def call_that_fails_when_it_is_cancelled() -> int:
        try:
            return await server.call(1)
        finally:
            raise OSError("cut off")

    async def work() -> None:
        async with CallsInTurn[int]() as calls:
            await calls.start(call_that_fails_when_it_is_cancelled())
            raise end

    with pytest.raises(end):
        await work()
    await asyncio.sleep(0)
    gc.collect()

    assert (server.cancelled, logged) == ([1], [])


async def test_whatever_ends_the_program_cancels_the_call_under_way(server: Server) -> None:
    class Stop(BaseException): ...

    with pytest.raises(Stop):
        await make(CallsInTurn[int](), server, 1, error=Stop())
    await asyncio.sleep(0)

    assert server.cancelled == [1]


async def test_a_slow_caller_leaves_no_reply_unread(server: Server) -> None:
    clock = iter([0.0, 0.5, 0.5, 2.0, 2.0, 2.1, 2.1])
    for n in (1, 2, 3):
        server.answer(n)
    async with CallsInTurn[int](lambda: next(clock)) as calls:
        await calls.start(server.call(1))
        assert calls.results == []
        await calls.start(server.call(2))  # prepared for more than a second
        assert calls.results == [1, 2]
        await calls.start(server.call(3))
        assert calls.results == [1, 2]
