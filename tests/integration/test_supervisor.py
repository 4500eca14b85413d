"""The supervisor and misbehaving workers: they die at once, or receive a signal too late."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.errors import WorkerFailed
from flowq.runtime.process.supervisor import Supervisor
from tests.eventually import eventually

SOON_SECONDS = 60.0
GRACE_SECONDS = 600.0

# Ends when it has been asked twice, as a worker does whose handler does not finish.
STUBBORN = """
import signal, time
asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: asked.append(number))
print("ready", flush=True)
while len(asked) < 2:
    time.sleep(0.01)
"""
DIES = "import os; os._exit(9)"
SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    broker = Broker(MemoryDialer(), Keys("flowq", "test"))
    yield broker
    await broker.close()


def supervisor_of(
    broker: Broker, script: str, *, notes: list[str] | None = None, command: Sequence[str] = (sys.executable, "-c")
) -> Supervisor:
    said: list[str] = [] if notes is None else notes
    return Supervisor(
        broker,
        [*command, script],
        lambda number, quarantined: b"{}",
        edges=(),
        all_edges=(),
        workers=1,
        grace_seconds=GRACE_SECONDS,
        note=said.append,
    )


async def seconds_to_stop(supervisor: Supervisor, *, hurry: bool = False) -> float:
    event = asyncio.Event()
    if hurry:
        event.set()
    began_at = time.monotonic()
    await supervisor.stop(event)
    return time.monotonic() - began_at


async def test_a_worker_that_is_just_being_started_is_stopped_as_well(broker: Broker) -> None:
    for n_turns in range(8):  # of the loop, to meet every moment of a start
        supervisor = supervisor_of(broker, SLEEPS)
        await supervisor.start()
        for _ in range(n_turns):
            await asyncio.sleep(0)

        assert await seconds_to_stop(supervisor) < SOON_SECONDS


async def test_two_signals_in_a_row_arrive_as_two(broker: Broker, capfd: pytest.CaptureFixture[str]) -> None:
    supervisor = supervisor_of(broker, STUBBORN)
    await supervisor.start()
    said = ""

    def ready() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return "ready" in said

    await eventually(ready)

    assert await seconds_to_stop(supervisor, hurry=True) < SOON_SECONDS


async def test_a_worker_that_dies_again_and_again_does_not_delay_the_stop(broker: Broker) -> None:
    notes: list[str] = []
    supervisor = supervisor_of(broker, DIES, notes=notes)
    await supervisor.start()
    await eventually(lambda: len(notes) >= 3)

    assert await seconds_to_stop(supervisor) < SOON_SECONDS
    assert set(notes) == {"worker 1 ended with exit code 9; starting another"}


async def test_workers_that_all_die_before_they_begin_end_the_run(broker: Broker) -> None:
    notes: list[str] = []
    supervisor = supervisor_of(broker, DIES, notes=notes)
    await supervisor.start()

    with pytest.raises(WorkerFailed, match="5 workers in a row ended with exit code 9"):
        await asyncio.wait_for(supervisor.failed, SOON_SECONDS)
    assert len(notes) == 4
    await supervisor.stop(asyncio.Event())


async def test_a_worker_that_cannot_be_started_ends_the_run(broker: Broker) -> None:
    supervisor = supervisor_of(broker, "", command=["/nowhere/python"])
    await supervisor.start()

    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(supervisor.failed, SOON_SECONDS)
    await supervisor.stop(asyncio.Event())
