"""`Dedup(keep="last")`: a later message replaces the first while no worker has it, in the step that adds it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from flowq.broker.edges import Edges
from flowq.broker.inspection.browse import Browser
from flowq.broker.keys import Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.publishing import CursorMove, Parcel, Publishing
from flowq.broker.records import Published
from flowq.broker.runs import Runs, balance_of
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.message import Delivery, Header
from flowq.delivery.policy import HASH_BYTES, DedupMemory
from flowq.delivery.settlement import Output
from tests.conformance.conftest import Command, SignOn
from tests.conformance.paced import sent_to_queue
from tests.conformance.worker import (
    EDGES,
    IN,
    OUT,
    PLAN,
    STAGES,
    Worker,
    buried,
    done,
    filtered,
    output,
    released,
    retried,
)
from tests.eventually import eventually

LAST = DedupMemory(None, (IN,))
INLET = ">store"
LAST_OF_STORE = DedupMemory(None, (INLET, OUT))


def record(body: str, *, key: str = "k", edge: str = IN, delay_ms: int = 0) -> Output:
    return output(edge, body.encode(), dedup=key, delay_ms=delay_ms)


async def add(
    worker: Worker, *bodies: str, key: str = "k", delay_ms: int = 0, memory: DedupMemory = LAST, token: str = ""
) -> Published:
    messages = [record(body, key=key) for body in bodies]
    return await Publishing(worker.broker).publish(IN, messages, dedup=memory, delay_ms=delay_ms, token=token)


async def left(worker: Worker, edges: Sequence[str] = EDGES) -> list[str]:
    """The bodies of all messages that wait, run or are delayed; and the balance must add up."""
    await worker.balance()
    _, sights = await Browser(worker.broker).peek(edges, most=1000)
    return sorted(sight.delivery.body.decode() for sight in sights)


async def passed(worker: Worker, milliseconds: int) -> None:
    """Wait until so much time has passed on the clock of Redis."""
    start_ms = (await worker.snapshot()).now_ms

    async def is_over() -> bool:
        return (await worker.snapshot()).now_ms > start_ms + milliseconds

    await eventually(is_over)


async def promoted(worker: Worker) -> None:
    async def is_waiting() -> bool:
        await Edges(worker.broker).promote([IN], limit=10)
        return (await worker.snapshot()).edges[IN].waiting == 1

    await eventually(is_waiting)


async def test_a_later_record_replaces_the_first_that_waits_and_takes_its_place_at_the_end(worker: Worker) -> None:
    assert await add(worker, "first") == Published(1, 0)
    await add(worker, "another", key="other")
    assert await add(worker, "later") == Published(1, 0)

    balance = await worker.balance()
    assert (balance.entered, balance.duplicates, balance.waiting) == (2, 1, 2)
    assert [delivery.body for delivery in await worker.read()] == [b"another", b"later"]


async def test_of_equal_values_in_one_call_the_last_one_is_left(worker: Worker) -> None:
    assert await add(worker, "1", "2", "3") == Published(3, 0)

    assert await left(worker) == ["3"]
    balance = await worker.balance()
    assert (balance.entered, balance.duplicates) == (1, 2)


async def test_messages_without_a_value_replace_nothing(worker: Worker) -> None:
    messages = [output(IN, b"1"), output(IN, b"2")]
    await Publishing(worker.broker).publish(IN, messages, dedup=LAST)

    assert await left(worker) == ["1", "2"]


# The table in docs/flow-control.md: which one is handled, by the state of the first


async def _waits(worker: Worker) -> None: ...


async def _runs(worker: Worker) -> None:
    await worker.read()


async def _was_handled(worker: Worker) -> None:
    await worker.settle(done(await worker.read_one()))


async def _was_filtered(worker: Worker) -> None:
    await worker.settle(filtered(await worker.read_one()))


async def _died(worker: Worker) -> None:
    await worker.settle(buried(await worker.read_one()))


async def _is_retried_later(worker: Worker) -> None:
    await worker.settle(retried(await worker.read_one()))


async def _queues_for_its_pacing_key(worker: Worker) -> None:
    await sent_to_queue(worker, await worker.read_one())


async def _was_handed_back(worker: Worker) -> None:
    await worker.settle(released(await worker.read_one()))


async def _is_due_again(worker: Worker) -> None:
    await worker.settle(retried(await worker.read_one(), 1))
    await promoted(worker)


LATER_WINS = [_waits, _is_retried_later, _queues_for_its_pacing_key]
FIRST_WINS = [_runs, _was_handled, _was_filtered, _died, _was_handed_back, _is_due_again]


@pytest.mark.parametrize("state", LATER_WINS, ids=lambda state: state.__name__.strip("_"))
async def test_the_later_one_wins_while_the_first(state: type[None], worker: Worker) -> None:
    await add(worker, "first")
    await state(worker)  # type: ignore[call-arg,misc]

    assert await add(worker, "later") == Published(1, 0)
    assert await left(worker) == ["later"]
    balance = await worker.balance()
    assert (balance.entered, balance.duplicates, balance.delayed) == (1, 1, 0)


@pytest.mark.parametrize("state", FIRST_WINS, ids=lambda state: state.__name__.strip("_"))
async def test_the_first_one_wins_once_it(state: type[None], worker: Worker) -> None:
    await add(worker, "first")
    await state(worker)  # type: ignore[call-arg,misc]
    before = await left(worker)

    assert await add(worker, "later") == Published(0, 1)
    assert await left(worker) == before
    balance = await worker.balance()
    assert (balance.entered, balance.duplicates) == (1, 1)


async def test_a_later_one_replaces_a_message_that_was_pushed_with_a_delay_and_has_its_own(worker: Worker) -> None:
    await add(worker, "in a minute", delay_ms=60_000)
    await add(worker, "in a day", delay_ms=86_400_000)
    assert await left(worker) == ["in a day"]

    assert await add(worker, "now") == Published(1, 0)
    assert [delivery.body for delivery in await worker.read()] == [b"now"]
    assert (await worker.balance()).duplicates == 2


async def test_a_message_that_was_delayed_and_is_due_is_handled_itself(worker: Worker) -> None:
    await add(worker, "first", delay_ms=1)
    await promoted(worker)

    assert await add(worker, "later") == Published(0, 1)
    assert await left(worker) == ["first"]


async def test_a_queue_whose_message_was_replaced_goes_on_with_the_next(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await add(worker, "first")
    await sent_to_queue(worker, await worker.read_one())
    await add(worker, "later")
    await add(worker, "other", key="other")
    for delivery in await worker.read():
        await sent_to_queue(worker, delivery)

    await Moving(worker.broker).dequeue_all("parse", [IN])
    await Edges(worker.broker).promote([IN], limit=10)
    assert sorted(delivery.body for delivery in await worker.read()) == [b"later", b"other"]
    assert await redis(b"ZCARD", keys.queue("parse")) == 0


# Several edges, both ways in, one step


async def test_the_first_is_found_on_whichever_edge_of_the_stage_it_waits(worker: Worker, sign_on: SignOn) -> None:
    worker = await sign_on("emits", seen={OUT: LAST_OF_STORE})
    inlet = Publishing(worker.broker)
    await inlet.publish(INLET, [record("pushed", edge=INLET)], dedup=LAST_OF_STORE)
    emitting = await worker.given_one()
    await worker.settle(done(emitting, record("emitted", edge=OUT)))

    assert await left(worker) == ["emitted"]
    counters = (await worker.snapshot()).counters
    assert {name: n for name, n in counters.items() if "store" in name and n} == {
        f"duplicates:{INLET}": 1,
        f"in:{OUT}": 1,
    }

    await inlet.publish(INLET, [record("pushed again", edge=INLET)], dedup=LAST_OF_STORE)
    assert await left(worker) == ["pushed again"]
    store = balance_of(PLAN, await worker.snapshot())["store"]
    assert (store.entered, store.duplicates, store.waiting) == (1, 2, 1)


async def test_outputs_of_one_settlement_replace_each_other_and_what_waits(sign_on: SignOn, worker: Worker) -> None:
    worker = await sign_on("emits", seen={OUT: LAST_OF_STORE})
    first, second = await worker.given_one(), await worker.given_one()
    await worker.settle(done(first, *(record(body, edge=OUT) for body in ("1", "2"))))
    await worker.settle(done(second, record("3", edge=OUT), record("4", edge=OUT, delay_ms=60_000)))

    assert await left(worker) == ["4"]
    store = balance_of(PLAN, await worker.snapshot())["store"]
    assert (store.entered, store.duplicates, store.delayed) == (1, 3, 1)


async def test_the_same_call_again_changes_nothing_and_answers_the_same(worker: Worker) -> None:
    await add(worker, "first")
    for _ in range(2):
        assert await add(worker, "later", "last", token="a push") == Published(2, 0)
    await add(worker, "newer")
    assert await add(worker, "later", "last", token="a push") == Published(2, 0)

    assert await left(worker) == ["newer"]


async def test_a_settlement_sent_again_changes_nothing(sign_on: SignOn, worker: Worker) -> None:
    worker = await sign_on("emits", seen={OUT: LAST_OF_STORE})
    delivery = await worker.given_one()
    settlement = done(delivery, record("first", edge=OUT), record("last", edge=OUT))
    await worker.settle(settlement)
    before = (await worker.snapshot()).counters
    await worker.settle(settlement)

    assert (await worker.snapshot()).counters == before
    assert await left(worker) == ["last"]


async def test_a_source_moves_its_cursor_with_the_record_that_replaces(worker: Worker) -> None:
    parcels = [Parcel(IN, [record("1"), record("2")], dedup=LAST)]
    move = CursorMove("rows", b"", b"2")
    for _ in range(2):
        await Publishing(worker.broker).publish_together(parcels, source="rows", move=move, token="")
    assert await Runs(worker.broker).cursor("rows") == b"2"
    assert await left(worker) == ["2"]


# What the memory forgets, and what it must not mistake


async def test_with_a_ttl_the_later_message_renews_it_and_after_it_both_are_handled(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    an_hour, soon = DedupMemory(3_600_000, (IN,)), DedupMemory(50, (IN,))
    await add(worker, "first", memory=DedupMemory(60_000, (IN,)))
    await add(worker, "later", memory=an_hour)
    about = await redis(b"HGET", keys.seen_until("parse"), b"about")
    assert int(about.split()[5]) > (await worker.snapshot()).now_ms + 3_000_000

    await add(worker, "short", key="other", memory=soon)
    await passed(worker, 50 + 3_600_000 // 16_000)  # the moments of a bucket are as exact as its longest ttl needs
    assert await add(worker, "again", key="other", memory=soon) == Published(1, 0)
    assert await left(worker) == ["again", "later", "short"]


async def test_what_is_forgotten_leaves_no_place_behind(worker: Worker, keys: Keys, redis: Command) -> None:
    await Publishing(worker.broker).publish(
        IN, [record("1", key=str(n)) for n in range(2500)], dedup=DedupMemory(1, (IN,))
    )

    async def is_small() -> bool:
        await add(worker, "last", key="last", memory=DedupMemory(86_400_000, (IN,)))
        n: int = await redis(b"HLEN", keys.latest("parse"))
        return n == 1

    await eventually(is_small)


async def test_a_new_run_forgets_the_places_as_well(worker: Worker, keys: Keys, redis: Command) -> None:
    await add(worker, "first")
    await worker.settle(done(await worker.read_one()))
    await Runs(worker.broker).begin("next", sources=(), signature="", edges=EDGES, stages=STAGES)

    assert await redis(b"EXISTS", keys.latest("parse")) == 0
    assert await add(worker, "first of the next") == Published(1, 0)


async def test_a_renamed_stage_keeps_its_memory_and_its_moved_message_wins(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await add(worker, "first")
    await passed(worker, 1)  # its next entry has another id
    moving = Moving(worker.broker)
    await moving.edge(IN, ">tidy")
    await moving.stage("parse", "tidy", {IN: ">tidy"})

    again = record("later", edge=">tidy")
    answer = await Publishing(worker.broker).publish(">tidy", [again], dedup=DedupMemory(None, (">tidy",)))
    assert answer == Published(0, 1)
    assert await redis(b"EXISTS", keys.latest("parse")) == 0


async def test_another_message_that_the_user_gave_the_same_id_is_not_mistaken_for_the_first(worker: Worker) -> None:
    def named(body: str, key: str) -> Output:
        return Output(IN, Header.entering("order-1").encode(), body.encode(), dedup_hash(key))

    publishing = Publishing(worker.broker)
    await publishing.publish(IN, [named("handled", "a")], dedup=LAST)
    await worker.settle(done(await worker.read_one()))
    await publishing.publish(IN, [named("unrelated", "b")], dedup=LAST, delay_ms=3_600_000)

    assert await add(worker, "later", key="a") == Published(0, 1)
    assert await left(worker) == ["unrelated"]


async def test_a_letter_that_was_put_back_is_not_replaced_because_it_may_have_been_edited(worker: Worker) -> None:
    await add(worker, "first")
    await worker.settle(buried(await worker.read_one()))
    letters = DeadLetters(PLAN, worker.broker)
    assert await letters.put_back(edit=lambda _: b'{"n":7}', per_second=0.001) == {"parse": 1}
    await worker.settle(retried(await worker.read_one()))

    assert await add(worker, "later") == Published(0, 1)
    assert await left(worker) == ['{"n":7}']


@pytest.mark.parametrize("place", [b"", b" ", b"1-1", b"1-1 x", b"99999999999999999999999-1 x", b"- x", b"\xff \xff"])
async def test_whatever_another_program_wrote_into_the_memory_the_first_wins_and_the_balance_holds(
    place: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    await add(worker, "first")
    await redis(b"HSET", keys.latest("parse"), dedup_hash("k")[:HASH_BYTES], place)

    assert await add(worker, "later") == Published(0, 1)
    assert await left(worker) == ["first"]


async def test_workers_of_a_version_that_keeps_the_first_drop_the_later_one(worker: Worker) -> None:
    await add(worker, "first", memory=DedupMemory())
    assert await add(worker, "later") == Published(0, 1)
    await add(worker, "1", key="new")
    assert await add(worker, "2", key="new", memory=DedupMemory()) == Published(0, 1)
    assert await left(worker) == ["1", "first"]


def test_a_stage_that_keeps_the_first_has_no_further_keys(keys: Keys) -> None:
    assert keys.of_target(IN, DedupMemory()) == (
        *keys.of_edge(IN),
        keys.seen("parse"),
        keys.unpacked("parse"),
        keys.workers,
    )
    assert keys.of_target(IN, None) == keys.of_edge(IN)


# Races


async def test_two_publishers_and_a_reader_at_once_lose_nothing_and_handle_each_value_once(
    worker: Worker, other: Worker
) -> None:
    values, n_rounds, handled = [str(n) for n in range(40)], 12, list[Delivery]()

    async def publish(who: Worker, name: str) -> None:
        for number in range(n_rounds):
            messages = [record(f"{name} {number}", key=value) for value in values]
            await Publishing(who.broker).publish(IN, messages, dedup=LAST)

    async def work() -> None:
        async with asyncio.timeout(60):
            while len(handled) < len(values):
                for delivery in await worker.read(3):
                    handled.append(delivery)
                    await worker.settle(done(delivery))

    await asyncio.gather(publish(worker, "a"), publish(other, "b"), work())
    assert len(handled) == len(values)
    balance = await worker.balance()
    assert (balance.entered, balance.ok, balance.outstanding) == (40, 40, 0)
    assert balance.duplicates == 2 * n_rounds * 40 - 40
