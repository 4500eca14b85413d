"""The virtual clock: it moves only when nothing else can happen, never hangs, and leaps over idle polls."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from flowq.errors import UsageError
from flowq.testing.simulation.virtual_loop import NothingLeft, VirtualLoop

DAY_SECONDS = 86_400.0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(quiet_seconds=5.0, stuck_seconds=60.0)
    yield loop
    loop.close()


async def poll(loop: VirtualLoop, looks: list[float], *, every_seconds: float = 1.0) -> None:
    """A background task that never ends."""
    while True:
        await loop.background_sleep(every_seconds)
        looks.append(loop.time())


async def wait_for_nothing_beside_a_poll(loop: VirtualLoop, looks: list[float]) -> None:
    polling = asyncio.create_task(poll(loop, looks))
    try:
        await asyncio.Event().wait()
    finally:
        polling.cancel()


def test_days_of_sleep_pass_at_once_and_are_exact(loop: VirtualLoop) -> None:
    loop.run(asyncio.sleep(3 * DAY_SECONDS))

    assert loop.time() == 3 * DAY_SECONDS


def test_timers_end_in_the_order_of_their_times(loop: VirtualLoop) -> None:
    ended: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append((seconds, loop.time()))

    async def main() -> None:
        await asyncio.gather(sleep(30), sleep(0.5), sleep(3))

    loop.run(main())

    assert ended == [(0.5, 0.5), (3, 3), (30, 30)]


def test_timeouts_follow_the_virtual_clock(loop: VirtualLoop) -> None:
    async def main() -> None:
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run(main())

    assert loop.time() == 3600


async def test_it_runs_inside_the_task_of_another_loop(loop: VirtualLoop) -> None:
    outer, task = asyncio.get_running_loop(), asyncio.current_task()

    async def inside() -> tuple[object, object]:
        await asyncio.sleep(1)
        return asyncio.get_running_loop(), asyncio.current_task()

    running, current = loop.run(inside())

    assert running is loop
    assert current is not task
    assert asyncio.get_running_loop() is outer
    assert asyncio.current_task() is task
    await asyncio.sleep(0)


async def test_the_outer_task_goes_on_after_an_error_inside(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        loop.run(fail())

    async with asyncio.timeout(10):
        await asyncio.sleep(0)


def test_waiting_for_what_cannot_happen_raises_instead_of_hanging(loop: VirtualLoop) -> None:
    cleaned_up: list[bool] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(True)

    with pytest.raises(NothingLeft):
        loop.run(main())

    assert cleaned_up == [True]
    assert loop.run(asyncio.sleep(0, "it can be used again")) == "it can be used again"


def test_polls_in_the_background_do_not_keep_it_from_noticing_that_nothing_is_left(loop: VirtualLoop) -> None:
    looks: list[float] = []

    async def main() -> None:
        await wait_for_nothing_beside_a_poll(loop, looks)

    with pytest.raises(NothingLeft):
        loop.run(main())

    assert len(looks) == 60


def test_it_leaps_over_idle_polls_each_of_which_ends_once(loop: VirtualLoop) -> None:
    looks: list[float] = []
    leaps: list[float] = []
    loop.on_leap(leaps.append)

    async def main() -> None:
        polling = asyncio.create_task(poll(loop, looks))
        await asyncio.sleep(DAY_SECONDS)
        polling.cancel()

    loop.run(main())

    assert looks == [1, 2, 3, 4, 5, DAY_SECONDS]
    assert leaps == [DAY_SECONDS - 5]
    assert loop.n_leaps == 1


def test_a_leap_goes_no_further_than_to_a_stop(loop: VirtualLoop) -> None:
    looks: list[float] = []

    async def main() -> None:
        loop.stop_leaps_in(100)
        loop.stop_leaps_in(200.5)
        polling = asyncio.create_task(poll(loop, looks))
        await asyncio.sleep(1000)
        polling.cancel()

    loop.run(main())

    assert looks == [1, 2, 3, 4, 5, 100, 200.5, 1000]


def test_after_a_stop_polls_get_time_before_it_says_that_nothing_is_left(loop: VirtualLoop) -> None:
    looks: list[float] = []

    async def main() -> None:
        loop.stop_leaps_in(500)
        await wait_for_nothing_beside_a_poll(loop, looks)

    with pytest.raises(NothingLeft):
        loop.run(main())

    assert looks[:6] == [1, 2, 3, 4, 5, 500]
    assert looks[-1] == 560


def test_it_does_not_leap_over_a_call_that_is_on_its_way(loop: VirtualLoop) -> None:
    arrived: list[float] = []

    async def call() -> None:
        await loop.call_sleep(50)
        arrived.append(loop.time())

    async def main() -> None:
        polling, calling = asyncio.create_task(poll(loop, [])), asyncio.create_task(call())
        await asyncio.sleep(1000)
        polling.cancel()
        await calling

    loop.run(main())

    assert arrived == [50]


def test_it_does_not_leap_while_something_else_happens(loop: VirtualLoop) -> None:
    looks: list[float] = []

    async def main() -> None:
        polling = asyncio.create_task(poll(loop, looks))
        for _ in range(10):
            await asyncio.sleep(4)
        polling.cancel()

    loop.run(main())

    assert len(looks) >= 39
    assert loop.n_leaps == 0


def test_a_call_in_a_thread_takes_no_virtual_time(loop: VirtualLoop) -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(0.001, lambda: None)
        await asyncio.to_thread(time.sleep, 0.05)
        return loop.time()

    assert loop.run(main()) == 0.0


def test_an_error_in_a_thread_is_raised_where_it_is_awaited(loop: VirtualLoop) -> None:
    def fail() -> None:
        raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        loop.run(asyncio.to_thread(fail))


def test_a_real_socket_is_read(loop: VirtualLoop) -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.sendall(b"real\n")
        line = await reader.readline()
        writer.close()
        theirs.close()
        return line

    assert loop.run(main()) == b"real\n"


def test_a_cancelled_background_sleep_is_no_reason_to_move_the_clock(loop: VirtualLoop) -> None:
    async def main() -> None:
        loop.background_sleep(10).cancel()
        await asyncio.sleep(20)

    loop.run(main())

    assert loop.time() == 20
    assert loop.n_leaps == 0


def test_a_task_that_never_waits_is_ended() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    loop = VirtualLoop(most_turns=1000)
    with pytest.raises(NothingLeft, match="the clock stands still"):
        loop.run(spin())
    loop.close()


@pytest.mark.parametrize("days", [1, 30, 3650, 36_500])
def test_a_long_sleep_is_one_step_of_the_clock_and_a_short_one_after_it_still_ends(days: int) -> None:
    async def sleep() -> float:
        await asyncio.sleep(days * 86_400)
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time()

    loop = VirtualLoop(most_turns=1000)
    assert loop.run(sleep()) == pytest.approx(days * 86_400 + 0.001)
    loop.close()


def test_a_task_of_the_loop_cannot_run_it() -> None:
    loop = VirtualLoop()

    async def nested() -> None:
        loop.run(asyncio.sleep(1))

    with pytest.raises(UsageError, match="a handler cannot call the harness that it runs in"):
        loop.run(nested())
    loop.close()
