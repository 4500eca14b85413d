"""What is left over is looked for in every shard, and removed from every shard, on every server."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.stored_bodies import StoredBodies
from flowq.large_bodies.store import BodyStore
from tests.conformance.shards.seen_shards import SeenShards
from tests.conformance.worker import IN, PLAN

WITHOUT_STAGES = replace(PLAN, stages=(), edges=())


def make_a_week_old(folder: Path) -> None:
    a_week_ago = time.time() - 7 * 86_400
    for file in folder.rglob("*"):
        os.utime(file, (a_week_ago, a_week_ago))


async def test_an_edge_that_is_left_over_is_removed_from_every_shard(seen: SeenShards) -> None:
    record = RecordedPlan(seen.broker)
    await record.record(PLAN)
    for lane, n in zip(seen.lanes, (0, 1, 2), strict=True):
        await lane.publish(*[b'{"n":1}'] * n)

    (orphan,) = [each for each in await record.orphans(WITHOUT_STAGES) if each.edge == IN]

    assert orphan.outstanding == 3
    assert await record.drop(orphan)
    assert [await shard.answer(b"XLEN", shard.keys.edge(IN)) for shard in seen.broker.shards] == [0, 0, 0]
    assert IN not in await record.edges()


async def test_a_left_over_edge_that_has_got_another_message_in_any_shard_is_kept(seen: SeenShards) -> None:
    record = RecordedPlan(seen.broker)
    await record.record(PLAN)
    await seen.lanes[1].publish(b'{"n":1}')
    (orphan,) = [each for each in await record.orphans(WITHOUT_STAGES) if each.edge == IN]
    await seen.lanes[2].publish(b'{"n":2}')

    assert not await record.drop(orphan)
    assert IN in await record.edges()


async def test_a_body_is_kept_as_long_as_a_message_of_any_shard_refers_to_it(seen: SeenShards, tmp_path: Path) -> None:
    keys = seen.lanes[2].broker.keys
    store = BodyStore(tmp_path, keys.namespace, keys.pipeline)
    for shard in seen.broker.shards:
        shard.claims = store
    await StoredBodies(seen.broker).identify_store()
    wanted, gone = await store.store([b"wanted", b"gone"])
    make_a_week_old(tmp_path)
    message = b"h", b"1-a 1-a - 1 e=file", b"b", wanted.encode()
    await seen.lanes[2].broker.answer(b"XADD", keys.edge(IN), b"*", *message)

    orphaned = await StoredBodies(seen.broker).orphaned(PLAN, older_than_seconds=86_400)

    assert list(orphaned.paths) == [gone.path]
    store.close()
