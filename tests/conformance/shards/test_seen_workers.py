"""Processes and their lanes are seen as they are, and kept messages of all shards run again in order."""

from __future__ import annotations

import flowq
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.throughput import Throughputs
from flowq.broker.records import TAKES_PART
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.dead_letters.kept import Kept
from flowq.inspector import Inspector
from tests.conformance.shards.seen_shards import FACTS, SeenShards
from tests.conformance.worker import LEASE_MS, PLAN, done, parse

PLAN_KEEPING = flowq.Pipeline("lab", parse.options(keep=100)).plan


async def test_a_process_that_serves_all_shards_is_one_worker(seen: SeenShards) -> None:
    await seen.lanes[1].given_one()

    overview = await overview_of(seen.broker, PLAN)

    (worker,) = overview.workers.values()
    assert (worker.shards, worker.slots, worker.running) == ((0, 1, 2), {"parse": 4}, {"parse": 1})
    assert overview.stages["parse"].workers == 1
    assert list(await Inspector(PLAN, seen.broker).workers()) == [worker.name]


async def test_a_process_serves_the_shards_of_its_lanes_though_it_is_registered_in_the_first_as_well(
    seen: SeenShards,
) -> None:
    first = Workers(seen.broker)
    await first.register("process", {**FACTS, TAKES_PART: False}, lease_ms=LEASE_MS, heartbeat="1")
    await first.forget(["lane0"])
    for lane in seen.lanes[1:]:
        await lane.given_one()
        await Throughputs(lane.broker).record({}, worker=lane.name, in_handlers={"parse": 1}, edges=[])

    overview = await overview_of(seen.broker, PLAN)

    (worker,) = overview.workers.values()
    assert (worker.name, worker.shards, worker.in_handler) == ("process", (1, 2), {"parse": 2})
    assert overview.shards is not None
    assert [each.workers for each in overview.shards.by_shard.values()] == [0, 1, 1]


async def test_kept_messages_of_all_shards_are_replayed_in_the_order_of_their_settlement(seen: SeenShards) -> None:
    for lane in seen.lanes:
        settling = Settling(lane.broker, {}, PLAN_KEEPING.keeping)
        await lane.settle(done(await lane.given_one()), done(await lane.given_one()), by=settling)
        await settling.close()
    kept = Kept(PLAN_KEEPING, seen.broker, "parse")

    assert await kept.replay(dry_run=True) == 6
    assert await kept.replay(limit=3) == 3
    assert [len(await lane.read()) for lane in seen.lanes] == [2, 1, 0]
    assert await kept.replay() == 3
