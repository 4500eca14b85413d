"""A tap: each call of a worker is named, takes virtual time that the seed decides, and never blocks the server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.broker.workers import Workers
from tests.conformance.worker import LEASE_MS, done, retried
from tests.testing.network_lab import Member, NetworkLab

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab() -> Iterator[NetworkLab]:
    lab = NetworkLab()
    yield lab
    lab.close()


def test_a_read_waits_in_virtual_time_and_gets_what_is_published_meanwhile(lab: NetworkLab) -> None:
    async def main() -> tuple[list[bytes], float]:
        reader, writer = await lab.member("reader"), await lab.member("writer")
        reading = asyncio.create_task(reader.reads(block_ms=3_600_000))
        await asyncio.sleep(600)
        published_at = lab.loop.time()
        await writer.publish(b"at last")
        return await reading, lab.loop.time() - published_at

    bodies, took_seconds = lab.run(main())

    assert bodies == [b"at last"]
    assert took_seconds < 0.01


def test_a_read_without_messages_ends_after_its_time(lab: NetworkLab) -> None:
    async def main() -> float:
        reader = await lab.member("reader")
        await reader.reader.connect()
        began = lab.loop.time()
        assert await reader.reads(block_ms=2000) == []
        return lab.loop.time() - began

    assert lab.run(main()) == pytest.approx(2.0, abs=0.02)


def test_a_read_is_ended_by_its_worker(lab: NetworkLab) -> None:
    async def main() -> float:
        reader = await lab.member("reader")
        reading = asyncio.create_task(reader.reads(block_ms=60_000))
        await asyncio.sleep(1)
        began = lab.loop.time()
        await reader.reader.unblock()
        assert await reading == []
        return lab.loop.time() - began

    assert lab.run(main()) < 0.1


def test_each_of_two_readers_gets_a_message_once(lab: NetworkLab) -> None:
    async def main() -> list[list[bytes]]:
        one, two = await lab.member("one"), await lab.member("two")
        reading = [asyncio.create_task(member.reads(1)) for member in (one, two)]
        await asyncio.sleep(0.1)
        await one.publish(b"a", b"b")
        return await asyncio.gather(*reading)

    first, second = lab.run(main())

    assert sorted(first + second) == [b"a", b"b"]


def test_calls_are_in_the_trace_with_stage_and_messages(lab: NetworkLab) -> None:
    async def main() -> None:
        member = await lab.member("w")
        await member.publish(b"1", b"2")
        one, two = await member.read()
        await member.settle(done(one), retried(two))

    lab.run(main())

    moved = lab.network.trace.of("publish", "read", "settle")
    assert [(event.worker, event.what, event.stage) for event in moved] == [
        ("w", "publish", "parse"), ("w", "read", "parse"), ("w", "settle", "parse")
    ]  # fmt: skip
    _, read, settled = moved
    assert settled.messages == read.messages
    assert len(read.messages) == 2
    assert settled.detail == "1 done, 1 retried"


def test_nothing_of_a_worker_that_was_killed_arrives(lab: NetworkLab) -> None:
    async def main() -> None:
        victim, other = await lab.member("victim"), await lab.member("other")
        await victim.publish(b"1")
        delivery = await victim.read_one()
        settling = asyncio.create_task(victim.settle(done(delivery)))
        await asyncio.sleep(0)
        victim.tap.kill()
        with pytest.raises(asyncio.CancelledError):
            await settling
        with pytest.raises(asyncio.CancelledError):
            await victim.publish(b"2")
        await other.publish(b"3")

    lab.run(main())

    assert lab.bodies == [b"1", b"3"]
    assert lab.n_pending == 1


def test_the_leases_of_live_workers_outlast_a_leap_and_those_of_dead_ones_do_not(lab: NetworkLab) -> None:
    async def main() -> None:
        alive = await lab.member("alive")
        (await lab.member("dead")).tap.kill()
        renewing = asyncio.create_task(renew(alive))
        await asyncio.sleep(86_400)
        renewing.cancel()

    async def renew(member: Member) -> None:
        while True:
            await lab.world.pause(LEASE_MS / 5000)
            assert await Workers(member.broker).renew("alive", lease_ms=LEASE_MS, heartbeat="2")

    lab.run(main())

    assert lab.loop.n_leaps > 1  # they stop where the lease of the dead worker is looked at
    assert lab.ask(b"PTTL", lab.keys.lease("alive")) > 0
    assert lab.ask(b"PTTL", lab.keys.lease("dead")) == -2


@pytest.mark.parametrize("seed", range(20))
def test_after_a_leap_leases_are_renewed_before_others_look_at_them(seed: int) -> None:
    lab = NetworkLab(seed=seed)

    async def renew(member: Member) -> None:
        while True:
            await lab.world.pause(LEASE_MS / 5000)
            await Workers(member.broker).renew(member.name, lease_ms=LEASE_MS, heartbeat="2")

    async def look(member: Member) -> None:
        while True:
            await lab.world.pause(0.5)
            await Workers(member.broker).leases(["renewing"])

    async def main() -> None:
        polling = [
            asyncio.create_task(look(await lab.member("looking"))),
            asyncio.create_task(renew(await lab.member("renewing"))),
        ]
        await asyncio.sleep(3600)
        await asyncio.sleep(0.1)
        for task in polling:
            task.cancel()

    lab.run(main())

    after = [event.what for event in lab.network.trace if event.at_seconds >= 3600]
    assert after[:2] == ["renew", "mget"]
    lab.close()


async def _race(lab: NetworkLab) -> None:
    """Three workers take messages from each other."""
    members = [await lab.member(name) for name in ("one", "two", "three")]

    async def work(member: Member) -> None:
        while deliveries := await member.read(1):
            await member.settle(*map(done, deliveries))

    for n in range(20):
        await members[n % 3].publish(b"%d" % n)
    await asyncio.gather(*map(work, members))


def traced(seed: int) -> str:
    lab = NetworkLab(seed=seed)
    lab.run(_race(lab))
    lab.close()
    return str(lab.network.trace)


def test_the_same_seed_leads_to_the_same_events_and_another_seed_to_others() -> None:
    assert traced(1) == traced(1)
    assert traced(1) != traced(2)


def test_the_same_seed_leads_to_the_same_events_in_another_process() -> None:
    program = "from tests.testing.test_tap import traced; print(traced(3))"

    def elsewhere(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert elsewhere("1") == elsewhere("2") == traced(3) + "\n"


def test_a_replica_confirms_every_write(lab: NetworkLab) -> None:
    async def main() -> object:
        member = await lab.member("w")
        return await member.broker.publishing.call_replicated(b"HSET", lab.keys.stats, b"f", 1, timeout_seconds=5)

    assert lab.run(main()) == 1
