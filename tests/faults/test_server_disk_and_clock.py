"""A server whose file was cut in the middle of a hand-off, and one whose clock is changed."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq import Context, Pipeline, Rate, Retry, RetryLater, stage
from flowq.broker.client.connection import UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.reader import Reader
from flowq.broker.workers import Workers
from tests.conformance.worker import IN, OUT, Worker, done, output
from tests.eventually import eventually
from tests.faults.servers import DurableServer
from tests.faults.survivor import LEASE_SECONDS, Survivor, lasts
from tests.redis_server import KINDS, Kind
from tests.runtime.lab import Item, Lab

SAFETY_SECONDS = 60.0
HOUR_SECONDS = 3600
N_STEPS = 4
# Live workers renew their leases a twentieth of a lease before others look again: 0.25 s for a machine that is busy.
LONG_LEASE_SECONDS = 5.0
EVERY_BYTES = 7


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hand_off_that_was_cut_anywhere_on_disk_is_there_in_whole_or_not_at_all(kind: Kind) -> None:
    keys = Keys("flowq", "lab")
    with DurableServer(kind) as server:
        worker = await Worker.sign_on(UrlDialer(server.url), keys, "first")
        delivery = await worker.given_one()
        before = server.journal.stat().st_size
        await worker.settle(done(delivery, output(OUT, b"x"), output(OUT, b"y")))
        await worker.close()
        server.kill()

        written = server.journal.read_bytes()
        seen = {cut: what_is_there(server, keys, written[:cut]) for cut in cuts(before, len(written))}

    nothing, everything = (1, 1, 0, None), (0, 0, 2, b"1")
    assert seen.pop(len(written)) == everything
    assert set(seen.values()) == {nothing}
    assert len(seen) > 10


def cuts(first: int, last: int) -> list[int]:
    return [*range(first, last, EVERY_BYTES), last - 1, last]


def what_is_there(server: DurableServer, keys: Keys, written: bytes) -> tuple[int, int, int, bytes | None]:
    """Entries on the inlet, how many of them are pending, entries handed on, and what the counter says."""
    server.journal.write_bytes(written)
    server.start()
    with server.client() as client:
        pending = client.xpending(keys.edge(IN), "flowq")["pending"]
        there = client.xlen(keys.edge(IN)), pending, client.xlen(keys.edge(OUT)), client.hget(keys.stats, "ok:parse")
    server.kill()
    return there


@pytest.fixture
def stepped(shim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[DurableServer, Path]]:
    """A server, and the file with the seconds by which its clock is wrong."""
    step = tmp_path / "step"
    step.write_bytes(struct.pack("=q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCK_STEP", str(step))
    with DurableServer("debian") as server:
        yield server, step


async def test_a_step_of_the_servers_clock_steals_nothing_and_leaves_no_lease_behind(
    stepped: tuple[DurableServer, Path], unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, step = stepped
    caplog.set_level(logging.WARNING)
    survivor = Survivor(server, unique_namespace, lease_seconds=LONG_LEASE_SECONDS)
    async with survivor.working(workers=2):
        survivor.gate.clear()
        await survivor.push(range(8))
        await eventually(lambda: survivor.runs.total() == 8)
        for hours in (*range(1, N_STEPS + 1), -1):  # a step ahead ends all leases at once, a step back prolongs them
            set_clock(step, hours * HOUR_SECONDS)
            assert abs(clock_of(server) - time.time() - hours * HOUR_SECONDS) < 60
            await lasts(0.4 * LONG_LEASE_SECONDS, still=lambda: survivor.runs.total() == 8)
        await lasts(1.5 * LONG_LEASE_SECONDS, still=lambda: survivor.runs.total() == 8)
        await eventually(lambda: lease_seconds(server, survivor))
        assert max(lease_seconds(server, survivor), default=0.0) <= LONG_LEASE_SECONDS
        survivor.gate.set()
        await survivor.stores(range(8))
    await survivor.lab.close()

    assert set(survivor.stored.values()) == {1}
    assert "reclaimed" not in caplog.text


async def test_what_was_delayed_and_held_while_the_clock_was_ahead_runs_when_the_clock_is_right_again(
    stepped: tuple[DurableServer, Path], unique_namespace: str
) -> None:
    server, step = stepped
    attempts: list[str] = []

    @stage(retry=Retry(attempts=2, base=1, jitter=False))
    async def retried(item: Item, ctx: Context) -> None:
        attempts.append("retried")
        if ctx.attempt == 1:
            raise ConnectionError

    @stage(rate=Rate(100, by="n"))
    async def held(item: Item) -> None:
        attempts.append("held")
        if attempts.count("held") == 1:
            raise RetryLater(after=1, hold="n")

    pipeline, lab = Pipeline("clock", retried, held), Lab.at(server.url, unique_namespace)
    set_clock(step, HOUR_SECONDS)
    async with lab.running(pipeline):
        await lab.push(pipeline, retried, Item(n=1))
        await lab.push(pipeline, held, Item(n=1))
        await eventually(lambda: sorted(attempts)[:2] == ["held", "retried"])
        set_clock(step, 0)
        await eventually(lambda: sorted(attempts) == ["held"] * 2 + ["retried"] * 2)
    await lab.close()


async def test_what_a_worker_left_that_died_while_the_clock_was_ahead_is_taken_over_when_it_is_right_again(
    stepped: tuple[DurableServer, Path], unique_namespace: str
) -> None:
    server, step = stepped
    survivor = Survivor(server, unique_namespace)
    set_clock(step, HOUR_SECONDS)
    await survivor.push(range(3))
    broker = survivor.lab.broker(survivor.pipeline)
    await Edges(broker).ensure_groups([">work"])
    await Workers(broker).register("dead", {"lease_seconds": LEASE_SECONDS}, lease_ms=5000, heartbeat="1")
    reader = Reader(broker, [">work"])
    assert len(await reader.read("dead", count=10, block_ms=10)) == 3
    await reader.close()
    async with survivor.working(registered=2):
        with server.client() as client:  # the keeper of the clock has looked
            await eventually(lambda: client.exists(survivor.key("clock")))
        set_clock(step, 0)
        await survivor.stores(range(3), seconds=SAFETY_SECONDS)
    await survivor.lab.close()

    assert set(survivor.stored.values()) == {1}


def set_clock(step: Path, seconds: int) -> None:
    with step.open("r+b") as file:  # in place: the server would die of a file that is empty for a moment
        file.write(struct.pack("=q", seconds))


def clock_of(server: DurableServer) -> int:
    with server.client() as client:
        seconds: int = client.time()[0]
        return seconds


def lease_seconds(server: DurableServer, survivor: Survivor) -> list[float]:
    """How long the leases will still last."""
    with server.client() as client:
        left_ms = [int(client.pttl(key)) for key in client.scan_iter(survivor.key("lease:*"))]  # type: ignore[arg-type]
        return [ms / 1000 for ms in left_ms]
