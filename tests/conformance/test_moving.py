"""Moves: messages on the edge of a renamed stage are on the new edge, once, after deaths, late wake-ups and repeats."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.migration.moving import Moving, StillServed
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, OUT, Worker, buried, done, output, retried
from tests.eventually import eventually

NEW = ">tidy"


async def die(worker: Worker, redis: Command) -> None:
    """The lease of a worker has run out; it does not know."""
    await redis(b"DEL", worker.broker.keys.lease(worker.name))


async def bodies(redis: Command, key: str) -> list[bytes]:
    return sorted(
        dict(zip(fields[::2], fields[1::2], strict=True))[b"b"] for _, fields in await redis(b"XRANGE", key, b"-", b"+")
    )


async def counter(redis: Command, keys: Keys, field: str) -> int:
    return int(await redis(b"HGET", keys.stats, field) or 0)


async def test_what_waits_what_a_dead_worker_ran_and_what_is_delayed_moves_with_its_counters(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"ran", b"delayed", b"done")
    _, delayed, finished = await worker.read()
    await worker.settle(retried(delayed, 60_000), done(finished))
    await worker.publish(b"waits")
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"foreign")
    due = await redis(b"ZRANGE", keys.delayed(IN), b"0", b"-1", b"WITHSCORES")
    await die(worker, redis)

    assert await Moving(worker.broker).edge(IN, NEW) == 4

    assert await bodies(redis, keys.edge(NEW)) == [b"foreign", b"ran", b"waits"]
    assert await redis(b"ZRANGE", keys.delayed(NEW), b"0", b"-1", b"WITHSCORES") == due
    assert (await redis(b"HVALS", keys.delayed_bodies(NEW)))[0].endswith(b"\ndelayed")
    assert await Edges(worker.broker).outstanding([IN, NEW]) == {IN: 0, NEW: 4}
    assert [await counter(redis, keys, f"in:{edge}") for edge in (IN, NEW)] == [
        1,
        3,
    ]  # foreign entries count when settled


async def test_nothing_moves_while_a_worker_that_reads_the_edge_is_alive(worker: Worker, other: Worker) -> None:
    await worker.given_one()

    with pytest.raises(StillServed, match="first"):
        await Moving(other.broker).edge(IN, NEW)

    assert await Edges(worker.broker).outstanding([IN, NEW]) == {IN: 1, NEW: 0}


async def test_a_worker_that_wakes_after_the_move_settles_nothing(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"1", b"2", b"3")
    deliveries = await worker.read()
    await die(worker, redis)
    await Moving(worker.broker).edge(IN, NEW)
    await worker.publish(b"4")

    await worker.settle(*[done(delivery, output(OUT, b"x")) for delivery in deliveries])

    assert await Edges(worker.broker).outstanding([IN, OUT, NEW]) == {IN: 1, OUT: 0, NEW: 3}
    assert await counter(redis, keys, "ok:parse") == 0


async def test_a_move_that_is_interrupted_or_run_twice_at_once_moves_each_message_once(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    expected = sorted(b"%d" % n for n in range(2600))
    await worker.publish(*expected)
    brokers = [Broker(worker.broker.dialer, keys) for _ in range(3)]
    broken_off = asyncio.create_task(Moving(brokers[0]).edge(IN, NEW))
    await eventually(lambda: _has_begun(worker.broker))
    broken_off.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await broken_off

    await asyncio.gather(*(Moving(broker).edge(IN, NEW) for broker in brokers[1:]))

    assert await bodies(redis, keys.edge(NEW)) == expected
    assert await Edges(worker.broker).outstanding([IN]) == {IN: 0}
    assert [await counter(redis, keys, f"in:{edge}") for edge in (IN, NEW)] == [0, 2600]
    for broker in brokers:
        await broker.close()


async def _has_begun(broker: Broker) -> bool:
    return (await Edges(broker).outstanding([NEW]))[NEW] > 0


async def test_dead_letters_keep_their_time_of_death_and_come_from_the_new_edge(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"1", b"2")
    await worker.settle(*[buried(delivery) for delivery in await worker.read()])
    before = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
    await redis(b"SADD", keys.seen("parse"), b"a")
    await redis(b"SADD", keys.seen("tidy"), b"b")
    await redis(b"HSET", keys.paused, b"parse", b"7")

    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: NEW})

    after = await redis(b"XRANGE", keys.dead("tidy"), b"-", b"+")
    assert [entry_id for entry_id, _ in after] == [entry_id for entry_id, _ in before]
    assert {fields[fields.index(b"e") + 1] for _, fields in after} == {NEW.encode()}
    assert not await redis(b"EXISTS", keys.dead("parse"), keys.seen("parse"))
    assert await redis(b"SMEMBERS", keys.seen("tidy")) in ([b"a", b"b"], [b"b", b"a"], {b"a", b"b"})
    assert await redis(b"HGETALL", keys.paused) in ([b"tidy", b"7"], {b"tidy": b"7"})
    assert [await counter(redis, keys, f"dead:{stage}") for stage in ("parse", "tidy")] == [0, 2]
    assert [await counter(redis, keys, f"in:{edge}") for edge in (IN, NEW)] == [0, 2]


async def test_what_was_purged_counts_for_the_new_name(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HINCRBY", keys.stats, b"purged:parse", 2)

    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: NEW})

    assert [await counter(redis, keys, f"purged:{stage}") for stage in ("parse", "tidy")] == [0, 2]


async def test_messages_queued_for_a_pacing_key_are_promoted_now(worker: Worker, keys: Keys, redis: Command) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"queues"), output(IN, b"is late")], delay_ms=86_400_000)
    name, late = await redis(b"ZRANGE", keys.delayed(IN), b"0", b"-1")
    await redis(b"ZADD", keys.queue("parse"), b"0", b"host\n1\n%b\n%b" % (IN.encode(), name))

    await Moving(worker.broker).dequeue_all("parse", [IN])

    seconds, _ = await redis(b"TIME")
    assert float(await redis(b"ZSCORE", keys.delayed(IN), name)) <= (int(seconds) + 1) * 1000
    assert float(await redis(b"ZSCORE", keys.delayed(IN), late)) > (int(seconds) + 80_000) * 1000
    assert not await redis(b"EXISTS", keys.queue("parse"))


async def test_messages_queued_on_other_edges_of_the_stage_keep_their_places(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(
        b"ZADD", keys.queue("parse"), *[x for n in range(1200) for x in (0, b"host\n%d\ntidy>parse\nm%d" % (n, n))]
    )
    await redis(b"ZADD", keys.queue("parse"), 0, b"host\n5555\n%b\nm" % IN.encode(), 0, b"written by another program")

    await Moving(worker.broker).dequeue_all("parse", [IN])

    left = await redis(b"ZRANGE", keys.queue("parse"), 0, -1)
    assert len(left) == 1200
    assert all(b"\ntidy>parse\n" in member for member in left)


async def test_what_both_stages_know_of_a_pacing_key_is_united(worker: Worker, keys: Keys, redis: Command) -> None:
    for stage, n in (("parse", 2), ("tidy", 1)):
        await redis(b"ZADD", keys.held_until(stage), 100 * n, b"both", 50, stage)
        for hash_of in (keys.rate, keys.starts, keys.hold_info, keys.pace, keys.restored):
            await redis(b"HSET", hash_of(stage), b"both", n, stage, 7)

    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: NEW})

    held = await redis(b"ZRANGE", keys.held_until("tidy"), b"0", b"-1", b"WITHSCORES")
    assert dict(zip(held[::2], map(float, held[1::2]), strict=True)) == {b"both": 200, b"parse": 50, b"tidy": 50}
    for hash_of in (keys.rate, keys.starts, keys.hold_info, keys.pace, keys.restored):
        assert await redis(b"HMGET", hash_of("tidy"), b"both", b"parse", b"tidy") == [b"1", b"7", b"7"]
        assert not await redis(b"EXISTS", hash_of("parse"), keys.held_until("parse"))


async def test_what_is_remembered_for_a_while_is_remembered_as_long_under_the_new_name(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"ZADD", keys.seen_until("parse"), 100, b"a", 200, b"b")
    await Moving(worker.broker).stage("parse", "tidy", {})
    assert await remembered(redis, keys, "tidy") == {b"a": 100, b"b": 200}

    # A worker has already begun under the new name.
    await redis(b"ZADD", keys.seen_until("parse"), 300, b"a", 50, b"b", 70, b"c")
    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {})

    assert await remembered(redis, keys, "tidy") == {b"a": 300, b"b": 200, b"c": 70}
    assert await remembered(redis, keys, "parse") == {}


async def remembered(redis: Command, keys: Keys, stage: str) -> dict[bytes, float]:
    flat = await redis(b"ZRANGE", keys.seen_until(stage), b"0", b"-1", b"WITHSCORES")
    return dict(zip(flat[::2], map(float, flat[1::2]), strict=True))


async def test_a_source_resumes_where_it_was_for_all_its_arguments(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.cursors, "rows", "7", "rows 0ab1", "8", "rows2", "9", "lines 0ab1", "5")
    await redis(b"HSET", keys.run, "source:rows", "done 4e1f", "runner:rows", "w1")

    for _ in range(2):
        await Moving(worker.broker).stage("rows", "lines", {})

    names = ["rows", "rows 0ab1", "rows2", "lines", "lines 0ab1"]
    assert await redis(b"HMGET", keys.cursors, *names) == [None, None, b"9", b"7", b"5"]
    assert await redis(b"HMGET", keys.run, "source:rows", "source:lines") == [None, b"done 4e1f"]
    assert await redis(b"HMGET", keys.run, "runner:rows", "runner:lines") == [None, b"w1"]


async def test_fixed_letters_and_kept_messages_are_moved_along(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"1")
    await worker.settle(buried((await worker.read())[0]))
    ((letter, _),) = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
    await redis(b"HSET", keys.edited("parse"), letter, b"fixed")
    await redis(b"XADD", keys.dead("tidy"), b"9999999999999-1", b"e", NEW, b"b", b"later")
    await redis(b"XADD", keys.kept("parse"), b"5-1", b"h", b"a b c 0", b"b", b"kept")

    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: NEW})

    assert not await redis(b"EXISTS", keys.edited("parse"), keys.kept("parse"))
    edited = await redis(b"HGETALL", keys.edited("tidy"))
    (moved,) = [id_ for id_, fields in await redis(b"XRANGE", keys.dead("tidy"), b"-", b"+") if b"later" not in fields]
    assert edited in ([moved, b"fixed"], {moved: b"fixed"})
    ((kept, fields),) = await redis(b"XRANGE", keys.kept("tidy"), b"-", b"+")
    assert (kept, fields[-1]) == (b"5-1", b"kept")
