"""Why messages are tried again: counted by the step that delays them, and carried by each message."""

from __future__ import annotations

from flowq.broker.edges import Edges
from flowq.broker.inspection.retried_errors import RetriedErrors
from flowq.broker.keys import Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.records import OTHER, FailureCount
from flowq.broker.runs import Runs
from flowq.broker.workers import Workers
from flowq.delivery.failed_attempts import failures_of
from flowq.delivery.settlement import Delay, Failed
from flowq.errors import Place
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, PLAN, STAGES, Settled, Worker, done, released, retried

PLACE = Place("pipelines/shop.py", 31)


def failed(text: str) -> Failed:
    return Failed(ValueError(text), PLACE)


async def counts(worker: Worker, stage: str = "parse") -> list[tuple[str, int]]:
    """The kinds of errors of a stage, each by its last error, and how often each was counted."""
    return [(each.error, each.count) for each in (await worker.snapshot()).failures.get(stage, ())]


async def fail(worker: Worker, *texts: str, delay_ms: int = 60_000) -> None:
    """Publish a message for each text and let it fail with that."""
    await worker.publish(*[b'{"n":1}'] * len(texts))
    deliveries = await worker.read(len(texts))
    await worker.settle(
        *[retried(delivery, delay_ms, failed(text)) for delivery, text in zip(deliveries, texts, strict=True)]
    )


async def test_a_pipeline_in_which_nothing_failed_has_no_key_for_it(worker: Worker, keys: Keys, redis: Command) -> None:
    first, second = [await worker.given_one() for _ in range(2)]
    await worker.settle(done(first), released(second))

    assert await redis(b"EXISTS", keys.failures) == 0


async def test_errors_are_counted_by_kind_with_the_last_of_each(worker: Worker, redis: Command) -> None:
    await fail(worker, "HTTP 503", "no price", "HTTP 502", "HTTP 500")

    first, second = (await worker.snapshot()).failures["parse"]
    now_ms = int((await redis(b"TIME"))[0]) * 1000

    assert (first.error, first.count, first.next_attempt) == ("ValueError: HTTP 500", 3, 2)
    assert (second.error, second.count, second.place) == ("ValueError: no price", 1, "pipelines/shop.py:31")
    assert abs(first.due_ms - now_ms - 60_000) < 10_000


async def test_the_counts_of_a_stage_add_up_to_its_retries(worker: Worker) -> None:
    await fail(worker, *[f"{'no' * n} price" for n in range(1, 40)])

    assert sum(n for _, n in await counts(worker)) == (await worker.balance()).retries == 39


async def test_a_settlement_that_was_sent_again_or_lost_counts_nothing(worker: Worker) -> None:
    delivery = await worker.given_one()
    for _ in range(3):
        await worker.settle(retried(delivery, failed=failed("no price")))

    assert await counts(worker) == [("ValueError: no price", 1)]


async def test_more_than_ten_kinds_of_a_stage_are_counted_together(worker: Worker, keys: Keys, redis: Command) -> None:
    await fail(worker, "nono price")
    await fail(worker, *[f"{'no' * n} price" for n in range(1, 31)])

    found = (await worker.snapshot()).failures["parse"]
    assert len(found) == 11
    assert {each.kind: each.count for each in found}[OTHER] == 20
    assert sorted(each.count for each in found) == [*[1] * 9, 2, 20]
    assert await redis(b"HLEN", keys.failures) == 11 + 2


async def test_errors_of_stages_are_counted_apart(worker: Worker) -> None:
    await worker.publish(b"1", b"2")
    first, second = await worker.read(2)
    await worker.settle(retried(first, failed=failed("no price")))
    await worker.settle(retried(second, failed=failed("no price")), stage="store")

    assert await counts(worker) == await counts(worker, "store") == [("ValueError: no price", 1)]


async def begin(worker: Worker, run_id: str, *, fresh: bool = False) -> str:
    id_, *_ = await Runs(worker.broker).begin(
        run_id, sources=[], signature="s", edges=EDGES, stages=STAGES, fresh=fresh
    )
    return id_


async def test_a_new_run_starts_without_errors_and_a_resumed_one_keeps_them(worker: Worker) -> None:
    await begin(worker, "r1")
    await fail(worker, "no price")

    assert await begin(worker, "r2") == "r1"
    assert await counts(worker) == [("ValueError: no price", 1)]
    await begin(worker, "r3", fresh=True)
    assert await counts(worker) == []


async def test_errors_of_a_run_that_an_earlier_version_has_ended_are_not_counted_in_the_next(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    """It removes the counters that it knows."""
    await begin(worker, "r1")
    await fail(worker, "no price", "no name")
    await redis(b"DEL", keys.stats)
    await redis(b"HSET", keys.run, b"id", b"r2")

    assert await counts(worker) == []
    await fail(worker, "no price")
    assert await counts(worker) == [("ValueError: no price", 1)]


async def test_a_renamed_stage_takes_its_errors_along(worker: Worker) -> None:
    await fail(worker, "no price", "no price", "no name")

    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: ">tidy"})

    assert await counts(worker) == []
    assert await counts(worker, "tidy") == [("ValueError: no price", 2), ("ValueError: no name", 1)]


async def test_the_errors_of_two_stages_that_become_one_are_added(worker: Worker) -> None:
    await fail(worker, "no price", "no name")
    await worker.publish(b"1", b"2")
    await worker.settle(*[retried(each, failed=failed("no price")) for each in await worker.read(2)], stage="store")

    await Moving(worker.broker).stage("parse", "store", {})

    assert await counts(worker, "store") == [("ValueError: no price", 3), ("ValueError: no name", 1)]


async def test_counters_that_another_program_wrote_are_no_errors_and_no_end(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    for words in (
        [b"failure parse 1", b"x"],
        [b"failure parse", b"1 2 3 4"],
        [b"kinds parse", b"many"],
        [b"failure parse 2", b"9" * 400 + b" 1e9 nan \xff"],
    ):
        await redis(b"HSET", keys.failures, *words)

    await fail(worker, "no price")

    found = (await worker.snapshot()).failures["parse"]
    assert FailureCount("2", 0, "", "", 0, found[-1].due_ms) in found
    assert ("ValueError: no price", 1) in await counts(worker)


# What the delayed messages say


async def test_delayed_messages_are_counted_by_the_error_that_delays_them(worker: Worker) -> None:
    await fail(worker, "HTTP 503", "no price")
    await fail(worker, "HTTP 502", delay_ms=30_000)

    often, once = (await RetriedErrors(worker.broker).of(PLAN, await worker.snapshot()))["parse"]

    assert (often.error, often.delayed, often.retries) == ("ValueError: HTTP 502", 2, 2)
    assert (often.attempt, often.attempts) == (2, PLAN.stage("parse").retry.attempts)
    assert often.next_try_seconds is not None
    assert 0 < often.next_try_seconds <= 30
    assert (once.error, once.delayed) == ("ValueError: no price", 1)


async def test_messages_with_an_error_that_is_not_counted_apart_are_delayed_by_other_errors(worker: Worker) -> None:
    await fail(worker, *[f"{'no' * n} price" for n in range(1, 31)])

    found = (await RetriedErrors(worker.broker).of(PLAN, await worker.snapshot()))["parse"]

    assert [error.delayed for error in found] == [20, *[1] * 10]
    assert found[0].kind == OTHER


async def test_an_error_that_delays_no_message_any_more_is_still_counted(worker: Worker) -> None:
    await fail(worker, "no price", delay_ms=0)
    await Edges(worker.broker).promote([IN])

    (error,) = (await RetriedErrors(worker.broker).of(PLAN, await worker.snapshot()))["parse"]

    assert (error.retries, error.delayed, error.attempt, error.next_try_seconds) == (1, 0, None, None)


async def test_what_is_left_to_another_version_is_delayed_with_its_error_and_is_no_retry(worker: Worker) -> None:
    delivery = await worker.given_one()
    left: Settled = (
        (delivery,),
        Delay(delivery.retried(counted=False), 60_000, counted=False, failed=failed("no such type")),
    )
    await worker.settle(left)

    (error,) = (await RetriedErrors(worker.broker).of(PLAN, await worker.snapshot()))["parse"]

    assert (error.error, error.retries, error.delayed) == ("ValueError: no such type", 0, 1)
    assert (await worker.balance()).retries == 0


async def test_a_message_whose_worker_died_between_two_attempts_keeps_its_error(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await fail(worker, "no price", delay_ms=0)
    await Edges(worker.broker).promote([IN])
    await other.read_one()
    await redis(b"DEL", keys.lease(other.name))

    taken = await Workers(worker.broker).reclaim(IN, other.name, worker.name, limit=10, crashed="killed")

    assert taken is not None
    (delivery,) = taken.deliveries
    assert [each.error for each in failures_of(delivery.header)] == ["ValueError: no price"]
    await worker.settle(retried(delivery, failed=failed("no name")))
    (error,) = (await RetriedErrors(worker.broker).of(PLAN, await worker.snapshot()))["parse"][:1]
    assert (error.error, error.attempt) == ("ValueError: no name", 3)


async def test_a_released_message_keeps_its_error(worker: Worker) -> None:
    await fail(worker, "no price", delay_ms=0)
    await Edges(worker.broker).promote([IN])

    await worker.settle(released(await worker.read_one()))

    assert [each.last for each in failures_of((await worker.read_one()).header)] == [1]
