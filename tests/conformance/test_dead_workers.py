"""Workers that died within a day are reported with how and when, each once, never at the cost of their messages."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.inspection.dead_workers import DeadWorker
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.overview import Overview
from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, LEASE_MS, PLAN, Worker

DAY_MS = 86_400_000


async def dead_workers(worker: Worker) -> Sequence[DeadWorker]:
    return (await overview_of(worker.broker, PLAN)).dead_workers


async def sign_on(worker: Worker, name: str, *formerly: str) -> None:
    facts = {"host": "crawler-1", "pid": 7, "stages": ["parse"], "edges": EDGES, "formerly": formerly}
    await Workers(worker.broker).register(name, facts, lease_ms=LEASE_MS, heartbeat="1")


async def test_a_death_that_its_supervisor_saw_is_reported_with_where_it_ran(worker: Worker) -> None:
    await sign_on(worker, "late")
    before = await worker.snapshot()

    await Workers(worker.broker).record_death("late", "crash: died of SIGKILL")

    [dead] = await dead_workers(worker)
    assert (dead.name, dead.how) == ("late", "died of SIGKILL")
    assert (dead.host, dead.pid, dead.stages) == ("crawler-1", 7, ("parse",))
    assert dead.at_ms is not None
    assert before.now_ms <= dead.at_ms <= (await worker.snapshot()).now_ms


async def test_a_death_is_reported_before_another_worker_notices_it(worker: Worker, keys: Keys, redis: Command) -> None:
    await sign_on(worker, "silent")
    await redis(b"DEL", keys.lease("silent"))

    [dead] = await dead_workers(worker)
    assert (dead.name, dead.at_ms, dead.how) == ("silent", None, "its lease has ended")


async def test_a_death_is_noted_once_however_many_edges_are_reclaimed(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await other.given_one()
    await redis(b"DEL", keys.lease(other.name))

    for _ in range(3):
        for edge in EDGES:
            await Workers(worker.broker).reclaim(edge, other.name, worker.name, limit=1)
    await Workers(worker.broker).forget([other.name])

    [dead] = await dead_workers(worker)
    assert (dead.name, dead.how) == (other.name, "its lease has ended")
    assert dead.at_ms


async def test_a_worker_that_left_nothing_behind_is_reported_as_well(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await sign_on(worker, "idle")
    await redis(b"DEL", keys.lease("idle"))

    await Workers(worker.broker).forget(["idle"])

    assert [(dead.name, dead.how) for dead in await dead_workers(worker)] == [("idle", "its lease has ended")]


async def test_a_worker_that_signs_off_has_not_died(worker: Worker) -> None:
    await sign_on(worker, "orderly")

    await Workers(worker.broker).retire("orderly", EDGES)
    await Workers(worker.broker).forget(["orderly"])

    assert await dead_workers(worker) == []


async def test_a_worker_that_continues_under_another_name_has_not_died(worker: Worker) -> None:
    await sign_on(worker, "slept")
    await Workers(worker.broker).record_death("slept", "lost: its process is gone")

    await sign_on(worker, "awake", "slept")

    assert await dead_workers(worker) == []


async def test_the_latest_fifty_deaths_are_kept_for_a_day(worker: Worker, keys: Keys, redis: Command) -> None:
    for n in range(60):
        await sign_on(worker, f"w{n}")
        await Workers(worker.broker).record_death(f"w{n}", "crash: died of SIGSEGV")

    assert [dead.name for dead in await dead_workers(worker)] == [f"w{n}" for n in range(59, 9, -1)]
    assert DAY_MS - 60_000 < await redis(b"PTTL", keys.deaths) <= DAY_MS


async def test_older_deaths_are_left_out(worker: Worker, keys: Keys, redis: Command) -> None:
    now_ms = (await worker.snapshot()).now_ms
    for ago_ms, name in ((DAY_MS + 1000, "old"), (DAY_MS - 60_000, "late")):
        await redis(b"XADD", keys.deaths, f"{now_ms - ago_ms}-0", b"worker", name, b"how", b"x", b"facts", b"{}")

    assert [dead.name for dead in await dead_workers(worker)] == ["late"]


async def test_the_next_look_reads_what_is_new_and_forgets_what_is_gone(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    async def names(before: Overview | None) -> tuple[Overview, list[str]]:
        seen = await overview_of(worker.broker, PLAN, before=before)
        return seen, [dead.name for dead in seen.dead_workers]

    for name in ("first", "second"):
        await sign_on(worker, name)
    await Workers(worker.broker).record_death("first", "crash: died of SIGSEGV")
    seen, one = await names(None)
    await Workers(worker.broker).record_death("second", "crash: died of SIGSEGV")
    seen, both = await names(seen)
    await redis(b"DEL", keys.deaths)
    _, none = await names(seen)

    assert (one, both, none) == (["first"], ["second", "first"], [])


async def test_a_key_of_another_program_in_their_place_stops_nothing(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"SET", keys.deaths, b"of another program")
    await other.given_one(b"left")
    await redis(b"DEL", keys.lease(other.name))

    taken = await Workers(worker.broker).reclaim(IN, other.name, worker.name, limit=10)

    assert taken is not None
    assert [delivery.body for delivery in taken.deliveries] == [b"left"]
    assert await dead_workers(worker) == []
