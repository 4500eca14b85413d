"""The snapshot: numbers of one instant that add up while everything moves."""

from __future__ import annotations

import asyncio
import random

import flowq
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.publishing import Publishing
from flowq.broker.records import EdgeState
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, balance_of
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import (
    EDGES,
    IN,
    OUT,
    PLAN,
    STAGES,
    Item,
    Settled,
    Worker,
    buried,
    done,
    filtered,
    output,
    parse,
    released,
    retried,
    store,
)

MESSAGES = 60


@flowq.stage
def tidy(item: Item) -> Item:
    return item


OLD = flowq.Pipeline("lab", tidy >> parse >> store).plan


async def test_every_place_a_message_can_be_in_is_told_apart(worker: Worker) -> None:
    await worker.publish(b"waiting", b"running", b"dead", b"delayed", b"ok", b"filtered")
    await Publishing(worker.broker).publish(IN, [output(IN, b"later")], delay_ms=60_000)
    first = await worker.read(5)
    await worker.publish(b"unread")

    await worker.settle(done(first[0]), filtered(first[1]), buried(first[2]), retried(first[3]))

    balance = await worker.balance()
    assert balance.as_json() == {
        "in": 8, "ok": 1, "filtered": 1, "dead": 1, "retries": 1, "duplicates": 0,
        "waiting": 2, "delayed": 2, "running": 1, "out": 0, "purged": 0,
    }  # fmt: skip


async def test_an_untouched_pipeline_is_empty_and_drained(worker: Worker) -> None:
    snapshot = await worker.snapshot()

    assert (snapshot.outstanding, snapshot.counters, snapshot.run) == (0, {}, {})
    assert snapshot.is_drained


async def test_the_snapshot_knows_who_works_and_what_time_it_is(worker: Worker, other: Worker, redis: Command) -> None:
    seconds, microseconds = await redis(b"TIME")

    snapshot = await worker.snapshot()

    assert {facts["worker"] for facts in snapshot.workers} == {worker.name, other.name}
    assert abs(snapshot.now_ms - (int(seconds) * 1000 + int(microseconds) // 1000)) < 5000


async def test_edges_that_do_not_exist_yet_are_empty(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"DEL", *[keys.edge(edge) for edge in EDGES])

    assert (await Runs(worker.broker).snapshot(EDGES, STAGES)).is_drained


async def test_the_balance_adds_up_at_every_instant_while_messages_circulate(worker: Worker, other: Worker) -> None:
    """Messages of `parse` go round: back to its inlet, to its neighbour, to their graves and back, until all are done.

    A message that were in two places or in none for an instant would be seen by one of the samples.
    """
    chance = random.Random(7)
    await worker.publish(*[b"x"] * MESSAGES)
    working = True

    def ends(round_: int) -> bool:
        return round_ > 12 or chance.random() < 0.2

    async def work(who: Worker) -> None:
        rounds = 0
        while (await who.snapshot()).edges[IN].outstanding:
            await Edges(who.broker).promote([IN])
            rounds += 1
            settled: list[Settled] = []
            for delivery in await who.read(count=7):
                goes_round = done(delivery, output(IN, b"x"), output(OUT, b"y"))
                settled.append(
                    done(delivery)
                    if ends(rounds)
                    else chance.choice(
                        [goes_round, filtered(delivery), buried(delivery), released(delivery), retried(delivery, 1)]
                    )
                )
            if settled:
                await who.settle(*settled)

    async def sample() -> int:
        samples = 0
        while working:
            balances = balance_of(PLAN, await Runs(sampler).snapshot(EDGES, STAGES))
            assert all(balance.adds_up for balance in balances.values()), balances
            samples += 1
        return samples

    sampler = Broker(worker.broker.dialer, worker.broker.keys)
    sampling = asyncio.create_task(sample())
    await asyncio.gather(work(worker), work(other))
    working = False

    assert await sampling > 20
    await sampler.close()
    balance = await worker.balance()
    assert balance.outstanding == 0
    assert balance.entered >= MESSAGES


async def test_a_message_on_its_way_is_never_seen_nowhere(worker: Worker) -> None:
    """One message goes from edge to edge and back, and is outstanding in every sample."""
    sampler = Broker(worker.broker.dialer, worker.broker.keys)
    travelling = True

    async def sample() -> set[int]:
        seen: set[int] = set()
        while travelling:
            seen.add((await Runs(sampler).snapshot(EDGES, STAGES)).outstanding)
        return seen

    await worker.publish(b"x")
    sampling = asyncio.create_task(sample())
    for _ in range(100):
        await worker.settle(done(await worker.read_one(), output(IN, b"x")))
    travelling = False

    assert await sampling == {1}
    await sampler.close()


async def test_what_came_by_an_edge_of_another_version_is_counted_and_what_is_still_there_is_not(
    worker: Worker, sign_on: SignOn
) -> None:
    old_edge = "tidy>parse"
    await RecordedPlan(worker.broker).record(OLD)
    await Edges(worker.broker).ensure_groups([old_edge])
    old = await sign_on("old", edges=(old_edge,))
    await worker.publish(b"1", b"2", b"3", b"4", edge=old_edge)
    running, ok, dead, delayed = await old.read()
    await old.settle(done(ok), buried(dead), retried(delayed))
    await old.publish(b"5", edge=old_edge)
    await worker.given_one()

    balance, snapshot = await worker.balance(), await worker.snapshot()

    assert (balance.entered, balance.ok, balance.dead, balance.running) == (3, 1, 1, 1)
    assert snapshot.orphans == {">tidy": EdgeState(0, 0, 0), old_edge: EdgeState(2, 1, 1)}
    assert (snapshot.outstanding, running.edge) == (1, old_edge)


async def test_dead_letters_of_a_stage_that_only_another_version_has_are_counted(worker: Worker) -> None:
    await RecordedPlan(worker.broker).record(OLD)
    await worker.settle(buried(await worker.given_one()), stage="tidy")

    snapshot = await worker.snapshot()

    assert (snapshot.orphan_letters, snapshot.dead_letters) == ({"tidy": 1}, {"parse": 0, "store": 0})
