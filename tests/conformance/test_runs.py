"""Runs: one resumes until it is finished, and the next one starts with clean counters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

import flowq
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.publishing import Publishing
from flowq.broker.records import EdgeState
from flowq.broker.runs import Runs
from flowq.delivery.policy import DedupMemory
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, STAGES, Item, Worker, buried, done, output, parse, store


@flowq.stage
def tidy(item: Item) -> Item:
    return item


OLD = flowq.Pipeline("lab", tidy >> parse >> store).plan
OLD_EDGE = "tidy>parse"
Begun = tuple[str, bool, dict[str, bool]]


async def begin(
    worker: Worker,
    run_id: str,
    *,
    sources: Sequence[str] = ("seeds",),
    signature: str = "s",
    fresh: bool = False,
    orphans: Sequence[str] = (),
) -> Begun:
    return await Runs(worker.broker).begin(
        run_id, sources=sources, signature=signature, edges=EDGES, stages=STAGES, fresh=fresh, orphans=orphans
    )


async def test_the_first_run_begins_with_its_sources_open(worker: Worker) -> None:
    assert await begin(worker, "r1") == ("r1", False, {"seeds": False})

    snapshot = await worker.snapshot()
    assert snapshot.run["id"] == "r1"
    assert snapshot.open_sources == ("seeds",)
    assert not snapshot.is_drained


async def test_a_run_whose_source_was_interrupted_resumes(worker: Worker) -> None:
    await begin(worker, "r1")
    await worker.settle(done(await worker.given_one()))

    assert await begin(worker, "r2") == ("r1", True, {"seeds": False})

    assert (await worker.balance()).ok == 1


async def test_a_run_with_messages_outstanding_resumes_without_its_finished_sources(worker: Worker) -> None:
    await begin(worker, "r1", sources=("seeds", "more"))
    await Runs(worker.broker).finish_source("seeds", "s")
    await worker.publish(b"outstanding")

    assert await begin(worker, "r2", sources=("seeds", "more")) == ("r1", True, {"seeds": True, "more": False})

    assert await Runs(worker.broker).is_source_finished("seeds", "s")
    assert not await Runs(worker.broker).is_source_finished("more", "s")


async def test_a_delayed_message_is_outstanding_as_well(worker: Worker) -> None:
    await begin(worker, "r1")
    await Runs(worker.broker).finish_source("seeds", "s")
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], delay_ms=60_000)

    assert await begin(worker, "r2") == ("r1", True, {"seeds": True})


async def test_a_finished_run_is_followed_by_one_with_clean_counters_and_nothing_seen(worker: Worker) -> None:
    await begin(worker, "r1")
    message = output(IN, b"x", dedup="x")
    await Publishing(worker.broker).publish(IN, [message], dedup=DedupMemory())
    await worker.settle(done(await worker.read_one()))
    await Runs(worker.broker).finish_source("seeds", "s")

    assert await begin(worker, "r2") == ("r2", False, {"seeds": False})

    assert (await worker.snapshot()).counters == {}
    assert (await Publishing(worker.broker).publish(IN, [message], dedup=DedupMemory())).appended == 1


async def test_dead_letters_outlive_the_run_in_which_they_died(worker: Worker) -> None:
    await begin(worker, "r1")
    await worker.settle(buried(await worker.given_one()))
    await Runs(worker.broker).finish_source("seeds", "s")

    await begin(worker, "r2")

    assert (await worker.snapshot()).dead_letters["parse"] == 1
    assert (await worker.balance()).dead == 0


async def test_other_arguments_let_a_finished_source_run_again(worker: Worker) -> None:
    await begin(worker, "r1", signature="one")
    await Runs(worker.broker).finish_source("seeds", "one")
    await worker.publish(b"outstanding")

    assert await begin(worker, "r2", signature="two") == ("r1", True, {"seeds": False})

    assert not await Runs(worker.broker).is_source_finished("seeds", "two")
    assert (await worker.snapshot()).open_sources == ("seeds",)


async def test_what_was_pushed_before_the_first_run_counts_in_it(worker: Worker) -> None:
    await worker.publish(b"early")

    assert await begin(worker, "r1", sources=()) == ("r1", True, {})

    assert (await worker.balance()).entered == 1


async def test_a_fresh_run_forgets_everything(worker: Worker, keys: Keys, redis: Command) -> None:
    await begin(worker, "r1")
    await Publishing(worker.broker).publish(IN, [output(IN, b"x", dedup="x")], dedup=DedupMemory())
    await worker.settle(buried(await worker.read_one()))
    await worker.publish(b"waiting")
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], delay_ms=60_000)

    assert await begin(worker, "r2", fresh=True) == ("r2", False, {"seeds": False})

    snapshot = await worker.snapshot()
    assert (snapshot.outstanding, snapshot.counters) == (0, {})
    assert set(snapshot.dead_letters.values()) == {0}
    assert await redis(b"EXISTS", keys.seen("parse"), keys.delayed_bodies(IN)) == 0


async def test_workers_that_were_reading_continue_in_a_fresh_run(worker: Worker) -> None:
    running = await worker.given_one()

    await begin(worker, "r1", sources=(), fresh=True)

    assert (await worker.settle(done(running))).won == 0
    await worker.publish(b"new")
    assert await worker.read() == []
    await worker.settle(done(await worker.read_one()))
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (1, 1)


async def test_messages_on_an_edge_of_another_version_let_the_run_resume(worker: Worker) -> None:
    await begin(worker, "r1")
    await Runs(worker.broker).finish_source("seeds", "s")
    await worker.publish(b"1", edge=OLD_EDGE)

    assert await begin(worker, "r2", orphans=[OLD_EDGE]) == ("r1", True, {"seeds": True})


async def test_a_fresh_run_leaves_and_counts_what_is_on_an_edge_of_another_version(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await Edges(worker.broker).ensure_groups([OLD_EDGE])
    await RecordedPlan(worker.broker).record(OLD)
    await worker.publish(b"1", b"2", edge=OLD_EDGE)
    await Publishing(worker.broker).publish(OLD_EDGE, [output(OLD_EDGE, b"3")], delay_ms=60_000)
    await redis(b"HINCRBY", keys.stats, f"in:{OLD_EDGE}", 4)  # of messages that are settled

    for _ in range(2):  # sent again, it counts nothing twice
        assert await begin(worker, "r1", fresh=True, orphans=[OLD_EDGE]) == ("r1", False, {"seeds": False})

    snapshot = await worker.snapshot()
    assert (snapshot.counters, snapshot.outstanding) == ({f"in:{OLD_EDGE}": 3}, 0)
    assert snapshot.orphans[OLD_EDGE] == EdgeState(2, 0, 1)
    assert (await worker.balance()).entered == 0  # a balance that adds up


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_run_without_sources_is_drained_when_nothing_is_outstanding(fresh: bool, worker: Worker) -> None:
    await begin(worker, "r1", sources=(), fresh=fresh)
    assert (await worker.snapshot()).is_drained

    await Edges(worker.broker).ensure_groups(EDGES)
    delivery = await worker.given_one()
    assert not (await worker.snapshot()).is_drained

    await worker.settle(done(delivery))
    assert (await worker.snapshot()).is_drained


async def test_a_key_of_another_program_is_named_and_not_counted(worker: Worker) -> None:
    key = worker.broker.keys.edge(EDGES[0])
    await worker.broker.ask([(b"SET", key, b"not a stream")])

    with pytest.raises(BrokerRefused, match=re.escape(key)):
        await Runs(worker.broker).snapshot(EDGES, ())
