"""What a deduplicating stage remembers: for a run, for ever, or for a while."""

from __future__ import annotations

from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.records import Published
from flowq.broker.runs import Runs
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import EDGES, IN, OUT, STAGES, Worker, done, output
from tests.eventually import eventually

DAY_MS = 86_400_000


def links(*urls: str, edge: str = IN) -> list[Output]:
    return [output(edge, url.encode(), dedup=url) for url in urls]


async def pushed(worker: Worker, *urls: str, ttl_ms: int | None = None) -> Published:
    return await Publishing(worker.broker).publish(IN, links(*urls), dedup=DedupMemory(ttl_ms))


async def begin(worker: Worker, run: str, *, remembering: tuple[str, ...] = (), fresh: bool = False) -> None:
    await Runs(worker.broker).begin(
        run, sources=(), signature="", edges=EDGES, stages=STAGES, remembering=remembering, fresh=fresh
    )


async def work_off(worker: Worker) -> None:
    async def is_empty() -> bool:
        for delivery in await worker.read():
            await worker.settle(done(delivery))
        return (await worker.balance()).outstanding == 0

    await eventually(is_empty)  # a fresh run has taken the group away, and the first read only makes it again


async def test_a_value_that_is_remembered_for_a_while_is_taken_again_after_it(worker: Worker) -> None:
    assert (await pushed(worker, "a", "b", "a", ttl_ms=DAY_MS)) == Published(2, 1)
    assert (await pushed(worker, "a", "c", ttl_ms=200)) == Published(1, 1)

    async def is_forgotten() -> bool:
        return (await pushed(worker, "c", ttl_ms=200)).appended == 1

    await eventually(is_forgotten)
    assert (await pushed(worker, "a", "b", ttl_ms=DAY_MS)).appended == 0


async def test_outputs_are_deduplicated_for_a_while_as_well(sign_on: SignOn, worker: Worker) -> None:
    worker = await sign_on("for a while", seen={OUT: DedupMemory(150)})
    first, second, third = [await worker.given_one() for _ in range(3)]

    both = done(first, *links("a", "b", "a", edge=OUT)), done(second, *links("a", edge=OUT))
    await worker.settle(*both)  # in one call: nothing is forgotten in between, however long a call takes
    assert (await worker.snapshot()).counters[f"duplicates:{OUT}"] == 2

    settled_ms = (await worker.snapshot()).now_ms

    async def is_forgotten() -> bool:  # by the clock of Redis, which decides it
        return (await worker.snapshot()).now_ms > settled_ms + 151

    await eventually(is_forgotten)
    delayed = output(OUT, b"b", dedup="b", delay_ms=60_000)
    await worker.settle(done(third, *links("a", edge=OUT), delayed))
    edge = (await worker.snapshot()).edges[OUT]
    assert (edge.waiting, edge.delayed) == (3, 1)


async def test_what_is_forgotten_takes_no_memory(worker: Worker, keys: Keys, redis: Command) -> None:
    await pushed(worker, *map(str, range(3000)), ttl_ms=1)
    rounds = 0

    async def is_small() -> bool:
        nonlocal rounds
        rounds += 1
        await pushed(worker, f"another {rounds}", ttl_ms=DAY_MS)
        about = await redis(b"HGET", keys.seen_until("parse"), b"about")
        return int(about.split()[2]) == rounds

    await eventually(is_small)
    assert rounds <= 4


async def test_a_new_run_forgets_but_for_the_stages_that_remember_for_ever(worker: Worker) -> None:
    for ttl_ms in (None, DAY_MS):
        await begin(worker, f"first {ttl_ms}", fresh=True)
        assert (await pushed(worker, "a", ttl_ms=ttl_ms)).appended == 1
        await work_off(worker)

        await begin(worker, "second", remembering=("parse",))
        assert (await pushed(worker, "a", ttl_ms=ttl_ms)).duplicates == 1

        await begin(worker, "third")
        assert (await pushed(worker, "a", ttl_ms=ttl_ms)).appended == 1
        await work_off(worker)


async def test_a_fresh_run_forgets_what_was_to_be_remembered_for_ever(worker: Worker) -> None:
    for ttl_ms in (None, DAY_MS):
        await pushed(worker, "a", ttl_ms=ttl_ms)

        await begin(worker, f"fresh {ttl_ms}", remembering=("parse",), fresh=True)

        assert (await pushed(worker, "a", ttl_ms=ttl_ms)).appended == 1
