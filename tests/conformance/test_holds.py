"""Held keys: none of their messages starts, then one tries, and the others follow."""

from __future__ import annotations

from flowq.broker.flow_control.limiter import Reservation, Verdict
from flowq.broker.inspection.pacing_keys import KeyInspection
from flowq.broker.workers import Workers
from flowq.delivery.policy import Rate
from tests.conformance.paced import FAST, QUEUES, asked, done, end, given, limiter, sent_to_queue
from tests.conformance.worker import IN, Worker
from tests.eventually import eventually


async def test_nothing_of_a_held_key_starts_and_other_keys_do(worker: Worker) -> None:
    one, two = await given(worker, 2)
    paced = limiter(worker, Rate(FAST))

    assert 50 < await paced.hold("a", 60.0, "HTTP 429") <= 60

    assert await asked(paced, worker, one) == [QUEUES]
    assert await asked(paced, worker, two, key="b") == [Reservation()]
    (held,) = await KeyInspection(worker.broker).held(["parse"])
    assert (held.stage, held.key, held.reason, held.repeats, held.waiting) == ("parse", "a", "HTTP 429", 0, 0)
    assert 50 < held.seconds_left <= 60


async def test_while_a_hold_lasts_it_is_only_made_longer(worker: Worker) -> None:
    paced = limiter(worker, Rate(FAST))
    await paced.hold("a", 60.0, "")

    assert 50 < await paced.hold("a", 5.0, "") <= 60
    assert 80 < await paced.hold("a", 90.0, "") <= 90


async def test_after_a_hold_one_message_tries_the_key_and_its_success_calls_the_others(worker: Worker) -> None:
    probe, *rest = await given(worker, 4)
    paced = limiter(worker, Rate(FAST))
    await paced.hold("a", 0.01, "busy")
    for delivery in rest:
        await sent_to_queue(worker, delivery)
    assert (await KeyInspection(worker.broker).held(["parse"]))[0].waiting == 3

    async def may_try() -> bool:
        return (await asked(paced, worker, probe))[0].is_probe

    await eventually(may_try)

    assert await asked(paced, worker, rest[0]) == [QUEUES]
    await paced.dequeue(["a"], sweep=True)
    assert await worker.read() == []

    await end(paced, done(worker, probe))

    assert [called.message_id for called in await worker.read()] == [delivery.message_id for delivery in rest]
    assert await KeyInspection(worker.broker).held(["parse"]) == []


async def test_a_hold_that_is_asked_for_by_the_message_that_tries_lasts_twice_as_long(worker: Worker) -> None:
    (probe,) = await given(worker, 1)
    paced = limiter(worker, Rate(FAST))
    lasted = [await paced.hold("a", 0.02, "busy")]

    async def may_try() -> bool:
        return (await asked(paced, worker, probe))[0].is_probe

    for _ in range(3):
        await eventually(may_try)
        lasted.append(await paced.hold("a", 0.02, "busy"))
        await end(paced, done(worker, probe, Verdict.HELD))

    assert [round(seconds, 3) for seconds in lasted] == [0.02, 0.04, 0.08, 0.16]
    assert (await KeyInspection(worker.broker).held(["parse"]))[0].repeats == 3


async def test_another_message_tries_when_the_worker_of_the_first_has_died(worker: Worker, other: Worker) -> None:
    first, second = await given(worker, 2)
    mine, theirs = limiter(worker, Rate(FAST)), limiter(other, Rate(FAST))
    await mine.hold("a", 0.001, "")

    async def may_try() -> bool:
        return (await asked(theirs, other, first))[0].is_probe

    await eventually(may_try)
    await sent_to_queue(worker, second)
    await mine.dequeue([], sweep=True)
    assert await worker.read() == []

    await Workers(other.broker).retire(other.name, [IN])
    await mine.dequeue([], sweep=True)

    (called,) = await worker.read()
    assert (await asked(mine, worker, called))[0].is_probe


async def test_a_try_that_was_interrupted_proves_nothing(worker: Worker) -> None:
    first, second = await given(worker, 2)
    paced = limiter(worker, Rate(FAST))
    await paced.hold("a", 0.001, "why it was")

    async def may_try() -> bool:
        return (await asked(paced, worker, first))[0].is_probe

    await eventually(may_try)
    await end(paced, done(worker, first, Verdict.NOT_RUN))

    assert (await asked(paced, worker, second))[0].is_probe
    assert (await KeyInspection(worker.broker).held(["parse"]))[0].reason == "why it was"


async def test_after_a_hold_none_leaves_the_queue_while_a_dead_worker_has_the_only_slot(
    worker: Worker, other: Worker
) -> None:
    first, second = await given(worker, 2)
    mine, theirs = limiter(worker, Rate(FAST, concurrency=1)), limiter(other, Rate(FAST, concurrency=1))
    assert await asked(theirs, other, first) == [Reservation()]
    await theirs.hold("a", 0.001, "")  # and then it dies, before it gives the slot back
    await sent_to_queue(worker, second)

    async def is_over() -> bool:
        return (await KeyInspection(worker.broker).held(["parse"]))[0].seconds_left == 0

    await eventually(is_over)
    await mine.dequeue(["a"], sweep=True)
    assert await worker.read() == []  # it would be sent back to the queue at once, again and again

    await Workers(other.broker).retire(other.name, [IN])
    await mine.dequeue([], sweep=True)

    (called,) = await worker.read()
    assert (await asked(mine, worker, called))[0].is_probe
