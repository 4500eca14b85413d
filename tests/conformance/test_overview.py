"""A pipeline at a glance: ages, holders, memory, slowest messages, the bottleneck and the estimated end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowq
from flowq.broker.client.connection import Dialer
from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.edge_stats import EdgeInspection
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.throughput import Throughputs, bucket_of
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from tests.conformance.conftest import Command, server_ms
from tests.conformance.recorder import Recorder
from tests.conformance.worker import EDGES, IN, LEASE_MS, OUT, PLAN, Item, Worker, done, output, retried
from tests.eventually import eventually


async def overview(worker: Worker) -> Overview:
    return await overview_of(worker.broker, PLAN)


async def sign_on_for(worker: Worker, name: str, *stages: str) -> None:
    await Workers(worker.broker).register(name, {"stages": stages}, lease_ms=LEASE_MS, heartbeat="1")


async def is_later(worker: Worker, moment_ms: int) -> bool:
    return (await worker.snapshot()).now_ms > moment_ms


async def test_the_oldest_waiting_message_is_not_one_that_runs(worker: Worker) -> None:
    await worker.publish(b"running")
    await worker.read_one()
    assert (await EdgeInspection(worker.broker).stats(EDGES))[IN].waiting_since_ms is None

    await worker.publish(b"oldest")
    before = await worker.snapshot()
    await eventually(lambda: is_later(worker, before.now_ms))  # so that the two differ in age
    await worker.publish(b"younger")

    since_ms = (await EdgeInspection(worker.broker).stats(EDGES))[IN].waiting_since_ms
    assert since_ms is not None
    assert since_ms <= before.now_ms


async def test_what_waits_before_any_group_exists_is_seen(worker: Worker, redis: Command) -> None:
    await redis(b"DEL", worker.broker.keys.edge(OUT))
    await redis(b"XADD", worker.broker.keys.edge(OUT), b"1000-7", b"b", b"{}")

    assert (await EdgeInspection(worker.broker).stats(EDGES))[OUT].waiting_since_ms == 1000


async def test_each_worker_is_told_apart_by_what_it_holds(worker: Worker, other: Worker) -> None:
    await worker.publish(*[b"x"] * 5)
    await worker.read(3)
    await other.read(2)

    assert (await EdgeInspection(worker.broker).stats(EDGES))[IN].held == {worker.name: 3, other.name: 2}


async def test_a_worker_with_nothing_at_a_stage_is_idle_there(worker: Worker) -> None:
    await sign_on_for(worker, worker.name, "parse", "store")
    await sign_on_for(worker, "second", "parse")
    await worker.given_one()

    stages = (await overview(worker)).stages
    assert (stages["parse"].workers, stages["parse"].idle_workers) == (2, 1)
    assert (stages["store"].workers, stages["store"].idle_workers) == (1, 1)


async def test_a_worker_without_a_lease_does_not_count(worker: Worker, redis: Command) -> None:
    await sign_on_for(worker, "dead", "parse")
    await redis(b"DEL", worker.broker.keys.lease("dead"))

    found = await overview(worker)
    assert "dead" not in found.workers
    assert found.stages["parse"].workers == 0


async def test_memory_grows_with_what_an_edge_holds(worker: Worker) -> None:
    async def used() -> int:
        return (await overview(worker)).stages["parse"].memory_bytes

    empty = await used()
    await worker.publish(*[b"x" * 1000] * 50)
    full = await used()
    await worker.settle(*[retried(delivery) for delivery in await worker.read()])

    if await _knows_memory(worker):
        assert empty + 50_000 < full < empty + 150_000
        assert await used() > empty + 50_000  # what is delayed takes memory as well


async def _knows_memory(worker: Worker) -> bool:
    return (await EdgeInspection(worker.broker).stats(EDGES))[IN].memory_bytes > 0


async def test_the_slowest_messages_come_longest_first_with_the_beginning_of_their_bodies(worker: Worker) -> None:
    await worker.publish(b"first")
    await worker.read_one()
    await eventually(lambda: EdgeInspection(worker.broker).slowest(EDGES, at_least_seconds=0.05))  # the next runs less
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"y" * 1000)])
    reader_of_out = await Worker.sign_on(worker.broker.dialer, worker.broker.keys, "third", edges=(OUT,))
    await reader_of_out.read_one()

    async def are_both_slow() -> bool:
        return len(await EdgeInspection(worker.broker).slowest(EDGES, at_least_seconds=0.01)) == 2

    await eventually(are_both_slow)
    first, second = await EdgeInspection(worker.broker).slowest(EDGES, at_least_seconds=0.01)
    await reader_of_out.close()

    assert (first.stage, first.worker, first.beginning) == ("parse", worker.name, b"first")
    assert (second.stage, second.worker, second.beginning) == ("store", "third", b"y" * 400)
    assert first.seconds > second.seconds
    assert await EdgeInspection(worker.broker).slowest(EDGES, at_least_seconds=60) == []


async def test_the_stage_that_clears_last_is_the_bottleneck_and_says_when(worker: Worker) -> None:
    await sign_on_for(worker, worker.name, "parse", "store")
    await worker.publish(*[b"x"] * 40)
    for _ in range(5):
        await Publishing(worker.broker).publish(OUT, [output(OUT, b"y")])
    assert (await overview(worker)).eta_seconds is None  # nothing has been done yet: it is unknown

    await Throughputs(worker.broker).record({"parse": {bucket_of(0.1): 10}})
    await worker.settle(*map(done, await worker.read(10)))
    out = await Worker.sign_on(worker.broker.dialer, worker.broker.keys, "third", edges=(OUT,))
    await out.settle(*map(done, await out.read(4)), stage="store")
    await out.close()

    async def speeds_are_known() -> bool:
        return (await overview(worker)).stages["parse"].throughput.per_second is not None

    await eventually(speeds_are_known)
    found = await overview(worker)
    parse = found.stages["parse"]
    assert parse.throughput.per_second is not None
    assert found.bottleneck == "parse"
    assert found.eta_seconds == pytest.approx(30 / parse.throughput.per_second)


async def test_a_full_edge_holds_back_the_stage_before_it_until_four_fifths(worker: Worker) -> None:
    @flowq.stage
    def parse(item: Item) -> Item:
        return item

    @flowq.stage(maxsize=10)
    def store(item: Item) -> None: ...

    plan = flowq.Pipeline("lab", parse >> store).plan
    await sign_on_for(worker, worker.name, "parse", "store")
    await worker.publish(*[b"x"] * 3)
    out = await Worker.sign_on(worker.broker.dialer, worker.broker.keys, "third", edges=(OUT,))
    causes: list[str] = []
    look: Overview | None = None
    for n_added, n_done in ((10, 0), (0, 2), (0, 1), (2, 0), (1, 0)):
        await Publishing(worker.broker).publish(OUT, [output(OUT, b"y") for _ in range(n_added)])
        await out.settle(*map(done, await out.read(n_done) if n_done else []), stage="store")
        look = await overview_of(worker.broker, plan, before=look)
        causes.append(look.causes["parse"].kind.value)
    await out.close()

    assert causes == ["held_back", "held_back", "keeps_up", "keeps_up", "held_back"]  # of 10: 10, 8, 7, 9, 10
    assert look is not None
    assert look.causes["parse"].by == "store"
    assert look.bottleneck != "parse"
    assert look.as_json()["edges"][OUT]["forecast"] == {"kind": "full", "seconds": None}


async def test_what_is_delayed_for_long_puts_the_end_off(worker: Worker) -> None:
    await sign_on_for(worker, worker.name, "parse", "store")
    await worker.publish(b"x", b"x")
    await Throughputs(worker.broker).record({})
    await worker.settle(done((await worker.read(1))[0]))
    await Publishing(worker.broker).publish(IN, [output(IN, b"later")], delay_ms=3_600_000)

    async def end_is_known() -> bool:
        return (await overview(worker)).eta_seconds is not None

    await eventually(end_is_known)
    assert (await overview(worker)).eta_seconds == pytest.approx(3600, rel=0.01)


async def test_a_pipeline_without_workers_has_no_bottleneck_and_no_end(worker: Worker, redis: Command) -> None:
    await worker.publish(*[b"x"] * 10)
    await redis(b"DEL", worker.broker.keys.lease(worker.name))

    found = await overview(worker)
    assert (found.state, found.bottleneck, found.eta_seconds) == ("stopped", None, None)


# In a handler, or read ahead


async def stage_parse(worker: Worker) -> tuple[int, int | None, int | None]:
    parse = (await overview(worker)).stages["parse"]
    return parse.balance.running, parse.in_handler, parse.read_ahead


async def test_what_is_in_a_handler_is_distinguished_from_what_was_read_ahead(worker: Worker, other: Worker) -> None:
    for one in (worker, other):
        await sign_on_for(worker, one.name, "parse")
    await worker.publish(*[b"x"] * 7)
    await worker.read(5)
    await other.read(2)

    await Throughputs(worker.broker).record({}, worker=worker.name, in_handlers={"parse": 3})
    await Throughputs(other.broker).record({}, worker=other.name, in_handlers={"parse": 1})

    assert await stage_parse(worker) == (7, 4, 3)
    by_worker = (await overview(worker)).workers
    assert by_worker[worker.name].running == {"parse": 5}
    assert by_worker[worker.name].in_handler == {"parse": 3}


async def test_what_is_in_the_handlers_of_a_worker_that_does_not_report_it_is_unknown(
    worker: Worker, other: Worker
) -> None:
    for one in (worker, other):
        await sign_on_for(worker, one.name, "parse")
    await worker.publish(b"x", b"x")
    await worker.read(1)
    await Throughputs(worker.broker).record({}, worker=worker.name, in_handlers={"parse": 1})
    assert await stage_parse(worker) == (1, 1, 0)

    await other.read(1)
    assert await stage_parse(worker) == (2, None, None)


async def test_what_was_settled_since_a_worker_reported_is_in_no_handler(worker: Worker) -> None:
    await sign_on_for(worker, worker.name, "parse")
    await worker.publish(*[b"x"] * 4)
    deliveries = await worker.read(4)
    await Throughputs(worker.broker).record({}, worker=worker.name, in_handlers={"parse": 4})

    await worker.settle(*map(done, deliveries[1:]))

    assert await stage_parse(worker) == (1, 1, 0)


async def test_what_a_dead_worker_left_is_in_no_handler(worker: Worker, other: Worker, redis: Command) -> None:
    await sign_on_for(worker, worker.name, "parse")
    await worker.publish(b"x")
    await other.read(1)
    await redis(b"DEL", worker.broker.keys.lease(other.name))

    assert await stage_parse(worker) == (1, 0, 1)


async def test_the_last_report_of_a_worker_counts(worker: Worker) -> None:
    await sign_on_for(worker, worker.name, "parse")
    await worker.publish(b"x", b"x")
    await worker.read(2)

    for n in (2, 1):
        await Throughputs(worker.broker).record({}, worker=worker.name, in_handlers={"parse": n})

    assert await stage_parse(worker) == (2, 1, 1)


# Workers


async def test_a_worker_has_its_version_uptime_slots_and_the_rest_of_its_lease(worker: Worker, redis: Command) -> None:
    now_ms = (await worker.snapshot()).now_ms
    facts = {"stages": ["parse"], "version": "0.9", "started_ms": now_ms - 5000, "slots": {"parse": 30}, "pid": 7}
    await Workers(worker.broker).register("told", facts, lease_ms=LEASE_MS, heartbeat="8 2.5")

    found = await overview(worker)
    told = found.workers["told"]
    assert (told.pid, told.version, told.started_ms, told.slots) == (7, "0.9", now_ms - 5000, {"parse": 30})
    assert told.uptime_seconds == pytest.approx(5 + (found.now_ms - now_ms) / 1000)
    assert told.lease_left_seconds is not None
    assert LEASE_MS - (await server_ms(redis) - now_ms) <= round(1000 * told.lease_left_seconds) <= LEASE_MS
    assert told.silent_seconds == 2.5
    assert found.stages["parse"].slots == 30


async def test_a_worker_of_an_earlier_version_has_the_slots_of_the_plan_and_no_uptime(worker: Worker) -> None:
    await sign_on_for(worker, "old", "parse", "store")

    old = (await overview(worker)).workers["old"]
    assert (old.version, old.uptime_seconds, old.in_handler) == (None, None, None)
    assert old.slots == {name: PLAN.stage(name).concurrency for name in ("parse", "store")}


# Edges


async def test_an_edge_has_its_arrivals_their_rate_and_their_age(worker: Worker) -> None:
    await worker.publish(*[b"x"] * 30)
    before = await worker.snapshot()
    await Throughputs(worker.broker).record({})
    after = await worker.snapshot()
    await worker.publish(*[b"x"] * 20)
    await worker.settle(*map(done, await worker.read(10)))

    async def rate_is_known() -> bool:
        return (await overview(worker)).edges[IN].rate is not None

    await eventually(rate_is_known)
    found = await overview(worker)
    edge = found.edges[IN]
    assert (edge.in_total, edge.outstanding, edge.waiting, edge.duplicates) == (50, 40, 40, 0)
    assert edge.rate is not None
    assert 20_000 / (found.now_ms - before.now_ms) <= edge.rate <= 20_000 / (found.now_ms - after.now_ms)
    assert edge.oldest_seconds == pytest.approx((found.now_ms - (edge.waiting_since_ms or 0)) / 1000)


async def test_an_edge_is_as_full_as_the_nearer_of_its_limits(worker: Worker) -> None:
    narrow = replace(PLAN, edges=tuple(replace(edge, maxsize=4, maxsize_bytes=100_000) for edge in PLAN.edges))

    async def edge() -> EdgeOverview:
        return (await overview_of(worker.broker, narrow)).edges[OUT]

    assert (await edge()).fill == 0  # the memory of an empty edge does not count
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"x")])
    assert (await edge()).fill == 0.25
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"x" * 60_000)])
    heavy = await edge()
    assert heavy.fill == max(0.5, heavy.memory_bytes / 100_000)
    assert (heavy.maxsize, heavy.maxsize_bytes) == (4, 100_000)
    assert (await overview(worker)).edges[IN].fill is None  # an inlet has no limit


# What a look costs


async def test_a_look_takes_two_calls(worker: Worker, dialer: Dialer) -> None:
    await worker.publish(*[b"x"] * 9)
    await worker.settle(*[retried(delivery) for delivery in await worker.read(3)])
    recorder = Recorder(dialer)
    broker = Broker(recorder, worker.broker.keys)
    before = await overview_of(broker, PLAN)  # loads the scripts
    n_sent = recorder.n_sent

    after = await overview_of(broker, PLAN, before=before)

    await broker.close()
    assert recorder.n_sent - n_sent == 2
    assert [error.delayed for error in after.stages["parse"].errors] == [3]
