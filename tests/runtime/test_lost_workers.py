"""Workers that die, hang, fail or fall silent: their messages run elsewhere, once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import timedelta

import pytest

from flowq import Context, Pipeline, stage
from flowq.broker.edges import Edges
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.runtime.death_records import Death, crashed, record_death_of_child, record_lost_neighbours
from flowq.runtime.housekeeping.jobs import restart_on_error
from flowq.runtime.identity import is_this_machine, process_birth, process_facts
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from flowq.testing import Crash
from flowq.testing.simulation.simulated_world import SimulatedWorld
from flowq.testing.simulation.virtual_loop import VirtualLoop
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import SHORT_LEASE_SECONDS, Record, recorded


async def left_by_a_worker(lab: Lab, pipeline: Pipeline, *, lease_ms: int) -> Broker:
    """Push thirty messages, of which a worker called dead takes twenty, and does nothing more."""
    broker = lab.broker(pipeline)
    await lab.push(pipeline, "first", *items(30))
    await Edges(broker).ensure_groups([">first"])
    await Workers(broker).register("dead", {}, lease_ms=lease_ms, heartbeat="1")
    reader = Reader(broker, [">first"])
    assert len(await reader.read("dead", count=20, block_ms=10)) == 20
    await reader.close()
    return broker


async def test_what_a_dead_worker_left_runs_within_1_2_leases(kit: Kit) -> None:
    record, lease = Record(), timedelta(hours=1)
    async with kit(recorded(record), workers=2, lease="1h", faults=[Crash("first", after="read")]) as h:
        fed_at = h.now
        await h.feed("first", *items(30))
        await h.drain()

        assert h.unfired == ()
        record.check(30, reruns=0)
        assert lease < h.calls("first")[-1].at - fed_at <= 1.2 * lease


async def test_what_a_worker_left_that_is_known_to_be_dead_runs_at_once(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record)
    dead = await left_by_a_worker(lab, pipeline, lease_ms=3_600_000)
    await Workers(dead).record_death("dead", "died of SIGKILL")

    async with lab.running(pipeline):
        await eventually(lambda: len(record.arrived) == 30)

    record.check(30, reruns=0)


async def test_a_stage_without_workers_stops_its_producers_until_it_has_one(lab: Lab) -> None:
    record = Record()

    @stage(concurrency=4)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        return item

    @stage(concurrency=4, maxsize=50)
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", *items(500))
    async with lab.running(pipeline, stages=["first"]):
        await eventually(lambda: len(record.handled) >= 50)
        await asyncio.sleep(0.5)
        assert (await lab.balance(pipeline))["last"].waiting <= 2 * 50 + 4
        async with lab.running(pipeline, stages=["last"]):
            await eventually(lambda: len(record.arrived) == 500)

    record.check(500, reruns=0)


async def test_a_background_job_that_fails_is_logged_and_restarted(caplog: pytest.LogCaptureFixture) -> None:
    starts = list[int]()
    loop = VirtualLoop()

    async def work() -> None:
        starts.append(len(starts))
        if len(starts) < 3:
            raise ValueError("odd")

    try:
        loop.run(restart_on_error(SimulatedWorld(loop), work, "the reclaimer"))
    finally:
        loop.close()

    assert len(starts) == 3
    assert loop.time() == pytest.approx(0.5 + 1)
    assert caplog.text.count("the reclaimer failed") == 2
    assert caplog.text.count("Traceback") == 1


async def test_code_that_blocks_the_loop_for_longer_than_the_lease_keeps_its_messages(lab: Lab) -> None:
    record = Record()

    @stage(concurrency=1)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        await asyncio.to_thread(others_may_look.wait, 3)  # the lease of a thread that waits is renewed as well
        return item

    others_may_look = threading.Event()

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", Item(n=0))
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: record.handled[0] == 1)
        async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
            time.sleep(2 * SHORT_LEASE_SECONDS)  # noqa: ASYNC251  (blocking both loops is what is tried)
            others_may_look.set()
            await eventually(lambda: record.arrived[0])

    record.check(1, reruns=0)


async def test_a_worker_cut_off_for_longer_than_its_lease_is_replaced_and_doubles_nothing(
    lab: Lab, far_lab: Lab, proxy: Proxy
) -> None:
    record = Record()
    names: set[str] = set()
    release = asyncio.Event()

    @stage(concurrency=5)
    async def first(item: Item) -> Item:
        record.handled[item.n] += 1
        if record.handled[item.n] == 1:
            await release.wait()
        return item

    @stage
    async def last(item: Item, ctx: Context) -> None:
        record.arrived[item.n].add(ctx.message_id)

    pipeline = Pipeline("p", first >> last)
    await lab.push(pipeline, "first", *items(5))
    cut_off = Runner(pipeline.plan, far_lab.broker(pipeline), RunOptions(lease_seconds=SHORT_LEASE_SECONDS))
    await cut_off.start()
    names.add(cut_off.worker)
    await eventually(lambda: len(record.handled) == 5)

    proxy.stall()
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: len(record.arrived) == 5)
        release.set()
        proxy.resume()
        await eventually(lambda: cut_off.worker not in names)
        await lab.push(pipeline, "first", *[Item(n=n) for n in range(5, 50)])
        await eventually(lambda: len(record.arrived) == 50)
        await cut_off.stop()

    record.check(50, reruns=5)
    balance = await lab.balance(pipeline)
    assert (balance["first"].ok, balance["last"].ok, balance["first"].dead) == (50, 50, 0)


async def test_the_death_of_a_worker_is_recorded_under_every_name_it_had(lab: Lab) -> None:
    pipeline = recorded(Record())
    broker = lab.broker(pipeline)
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        name = runner.worker
        await lab.command(b"HDEL", broker.keys.workers, name)

        async def is_back() -> bool:
            return runner.worker != name and runner.worker in await Workers(broker).registered()

        await eventually(is_back)
        pid = os.getpid()
        assert await record_death_of_child(broker, Death("", pid, process_birth(pid), "died of SIGKILL", False))
        assert crashed(await Workers(broker).death_records()).keys() == {name, runner.worker}


async def test_a_worker_that_lost_its_registration_continues_under_another_name(lab: Lab) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01)
    keys = lab.broker(pipeline).keys
    await lab.push(pipeline, "first", *items(100))
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        name = runner.worker
        await eventually(lambda: len(record.handled) >= 20)
        await lab.command(b"HDEL", keys.workers, name)
        await eventually(lambda: runner.worker != name)
        await lab.push(pipeline, "first", *[Item(n=n) for n in range(100, 200)])
        await eventually(lambda: len(record.arrived) == 200)

    record.check(200, reruns=0)
    assert not any((await Workers(lab.broker(pipeline)).consumers_of([">first", "first>last", ">last"])).values())


async def test_a_worker_of_another_supervisor_with_the_same_pid_is_not_recorded_dead(lab: Lab) -> None:
    """On another machine, or in another container: where /proc is missing, all of them look alike."""
    broker = lab.broker(recorded(Record()))
    facts = {**process_facts(), "pid": 4711, "born": "100"}
    await Workers(broker).register("elsewhere", {**facts, "supervisor": "theirs"}, lease_ms=60_000, heartbeat="1")
    await Workers(broker).register("ours", {**facts, "supervisor": "ours"}, lease_ms=60_000, heartbeat="1")

    assert await record_death_of_child(broker, Death("ours", 4711, "100", "died of SIGKILL", was_asked=False))

    assert set(await Workers(broker).death_records()) == {"ours"}


async def test_a_worker_that_has_got_the_pid_of_a_dead_one_is_not_recorded_dead(lab: Lab) -> None:
    """A shard may learn of a death late, when the id of that process has been given to its successor."""
    broker = lab.broker(recorded(Record()))
    facts = {**process_facts(), "supervisor": "ours", "pid": 4711}
    await Workers(broker).register("dead", {**facts, "born": "100"}, lease_ms=60_000, heartbeat="1")
    await Workers(broker).register("successor", {**facts, "born": "200"}, lease_ms=60_000, heartbeat="1")

    assert await record_death_of_child(broker, Death("ours", 4711, "100", "died of SIGKILL", was_asked=False))

    assert set(await Workers(broker).death_records()) == {"dead"}


async def test_where_machines_cannot_be_distinguished_no_neighbour_is_taken_for_dead(lab: Lab) -> None:
    broker = lab.broker(recorded(Record()))
    facts = {"host": "other", "pid": 2**22 + 1, "born": "", "where": ""}
    await Workers(broker).register("elsewhere", facts, lease_ms=60_000, heartbeat="1")

    assert await record_lost_neighbours(broker) == []
    assert not is_this_machine("other", "")
