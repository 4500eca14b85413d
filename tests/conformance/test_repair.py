"""Dead letters are fixed, removed, restored and put back in atomic steps, on every server."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.scripts import Script
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.fitting import DoesNotFit
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.selection import Selection
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.history import deaths_of
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import DeadLetter
from flowq.errors import NotFound
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, PLAN, Worker, buried


async def bury(worker: Worker, *numbers: int, error: str = "no") -> list[Delivery]:
    """Messages that die, each with an error of its own number."""
    await worker.publish(*(b'{"n":%d}' % n for n in numbers))
    deliveries = await worker.read()
    errors = [ValueError(f"{error} {n}") for n in numbers]
    await worker.settle(*(buried(*pair) for pair in zip(deliveries, errors, strict=True)))
    return deliveries


@pytest.fixture
def letters(worker: Worker) -> DeadLetters:
    return DeadLetters(PLAN, worker.broker)


async def numbers_waiting(worker: Worker) -> list[int]:
    return [orjson.loads(delivery.body)["n"] for delivery in await worker.read()]


# Which


async def test_errors_that_differ_in_numbers_alone_are_one_group(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, *range(5), error="row")
    await bury(worker, 7, error="column")

    groups = await letters.groups()

    assert [(group.error, group.count) for group in groups] == [("ValueError: row 0", 5), ("ValueError: column 7", 1)]
    of_kind = [letter async for letter in letters.each(Selection(ids=[groups[0].fingerprint]))]
    assert len(of_kind) == 5
    assert (groups[0].first_died_at, groups[0].last_died_at) == (of_kind[0].died_at, of_kind[-1].died_at)


async def test_letters_are_chosen_by_content_and_number(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, *range(10))

    assert await letters.put_back(Selection(where=(Condition.parse("n>=6"),), limit=3)) == {"parse": 3}

    assert await numbers_waiting(worker) == [6, 7, 8]


class CountingBroker(Broker):
    """Counts the scripts it is asked to run."""

    n_calls = 0

    async def script(self, script: Script, keys: Sequence[Any], *arguments: Any) -> Any:
        self.n_calls += 1
        return await super().script(script, keys, *arguments)


async def test_ten_thousand_letters_are_listed_with_a_call_a_thousand(
    worker: Worker, dialer: Dialer, redis: Command
) -> None:
    body, info = b"x" * 2000, orjson.dumps({"error": "ValueError: row 1", "traceback": "t" * 1000})
    stream = worker.broker.keys.dead("parse")
    fill = b"for i = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'e', ARGV[1], 'b', ARGV[2], 'x', ARGV[3]) end"
    await redis(b"EVAL", fill, 1, stream, IN, body, info)
    broker = CountingBroker(dialer, worker.broker.keys)

    (group,) = await DeadLetters(PLAN, broker).groups()

    assert group.count == 10_000
    assert broker.n_calls <= 12
    await broker.close()


# Back, with a history


async def test_a_message_that_dies_again_shows_what_it_died_of_before(worker: Worker, letters: DeadLetters) -> None:
    await worker.publish(b'{"n":1}')
    for death in ("first", "second", "third"):
        delivery = await worker.read_one()
        header = delivery.header
        await worker.settle(((delivery,), DeadLetter("attempts exhausted", ValueError(death), header)))
        (letter,) = await letters.first(limit=10)
        await letters.put_back()

    assert [told.error for told in letter.deaths] == ["ValueError: first", "ValueError: second"]
    (back,) = await worker.read()
    assert [told.error for told in deaths_of(back.header)][-1] == "ValueError: third"
    assert back.message_id == letter.message_id


async def test_letters_put_back_at_a_rate_are_due_in_turn(worker: Worker, letters: DeadLetters, redis: Command) -> None:
    await bury(worker, *range(4))

    assert await letters.put_back(per_second=0.1) == {"parse": 4}

    assert await numbers_waiting(worker) == [0]
    due = await redis(b"ZRANGE", worker.broker.keys.delayed(IN), 0, -1, b"WITHSCORES")
    times = [float(score) for score in due[1::2]]
    assert [round(later - sooner, -3) for sooner, later in pairwise(times)] == [10_000, 10_000]
    balance = await worker.balance()
    assert (balance.dead, balance.delayed, balance.entered) == (0, 3, 4)


async def test_letters_go_to_another_stage_and_both_balances_add_up(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1, 2)

    assert await letters.put_back(to="store") == {"store": 2}

    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (2, 2)
    assert (await worker.snapshot()).edges[">store"].waiting == 2
    assert await letters.first(limit=9) == []


async def test_a_stage_that_is_not_there_takes_nothing(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1)

    with pytest.raises(NotFound):
        await letters.put_back(to="stroe")

    assert len(await letters.first(limit=9)) == 1


# Fixed


async def test_an_edit_changes_the_message_in_the_step_that_puts_it_back(worker: Worker, letters: DeadLetters) -> None:
    (delivery,) = await bury(worker, 1)

    assert await letters.put_back(edit=lambda letter: b'{"n": 41}') == {"parse": 1}

    back = await worker.read_one()
    assert (back.message_id, back.body) == (delivery.message_id, b'{"n": 41}')


async def test_an_edit_that_does_not_fit_puts_nothing_back(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1)

    for dry_run in (True, False):
        with pytest.raises(DoesNotFit, match="accepts Item") as caught:
            await letters.put_back(edit=lambda letter: b'{"n": "many"}', dry_run=dry_run)
        assert [each.path for each in caught.value.fields] == ["n"]

    assert len(await letters.first(limit=9)) == 1


async def test_a_fixed_letter_keeps_its_place_and_runs_as_the_new_message(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1, 2, 3)
    before = await letters.first(limit=9)
    second = before[1]

    fixed = await letters.fix("parse", {second.id: b'{"n":42}', before[2].id: b'{ "n": 3 }', "1-1": b'{"n":0}'})

    assert (fixed.n, fixed.unchanged, fixed.missing) == (1, 1, ("1-1",))
    after = await letters.first(limit=9)
    assert [(letter.id, letter.died_at) for letter in after] == [(letter.id, letter.died_at) for letter in before]
    assert [(letter.message["n"], letter.is_edited) for letter in after] == [(1, False), (42, True), (3, False)]
    await letters.put_back()
    assert await numbers_waiting(worker) == [1, 42, 3]
    assert await letters.put_back() == {}


async def test_letters_fixed_and_put_back_twice_run_once(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1, 2)
    bodies = {letter.id: b'{"n":%d}' % (letter.message["n"] + 40) for letter in await letters.first(limit=9)}

    first = await letters.fix("parse", bodies, and_put_back=True)
    second = await letters.fix("parse", bodies, and_put_back=True)

    assert (first.n, second.n, len(second.missing)) == (2, 0, 2)
    assert await numbers_waiting(worker) == [41, 42]


async def test_one_message_that_does_not_fit_fixes_none(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1, 2)
    one, other = await letters.first(limit=9)

    with pytest.raises(DoesNotFit, match=other.id):
        await letters.fix("parse", {one.id: b'{"n":9}', other.id: b"{}"})

    assert not any(letter.is_edited for letter in await letters.first(limit=9))


async def test_a_caller_who_missed_an_edit_does_not_put_it_back(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1)
    (seen,) = await letters.first(limit=9)
    await StoredLetters(worker.broker, "parse").edit([(seen.id, b'{"n":2}')])

    unaware = WayBack(seen.id, seen.header.encode(), seen.run)
    assert await StoredLetters(worker.broker, "parse").put_back(IN, [unaware]) == 0
    assert await letters.put_back() == {"parse": 1}
    assert await numbers_waiting(worker) == [2]


# Removed and restored


async def test_a_removed_letter_loses_its_edit_too(worker: Worker, letters: DeadLetters, redis: Command) -> None:
    await bury(worker, 1, 2)
    (first, *_) = await letters.first(limit=9)
    await letters.fix("parse", {first.id: b'{"n":5}'})

    assert await letters.remove(Selection(ids=[first.id])) == {"parse": 1}
    assert await StoredLetters(worker.broker, "parse").remove([first.id]) == 0

    assert [letter.message["n"] for letter in await letters.first(limit=9)] == [2]
    assert await redis(b"EXISTS", worker.broker.keys.edited("parse")) == 0
    assert (await worker.balance()).dead == 2


async def test_a_letter_exported_and_removed_is_restored_once_as_it_was(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1)
    (letter,) = await letters.first(limit=9)
    exported = DeadLetterRecord.from_json(orjson.loads(orjson.dumps(letter.as_json())))
    await letters.remove()

    assert await letters.restore([exported]) == {"parse": 1}
    assert await letters.restore([exported]) == {"parse": 0}

    (restored,) = await letters.first(limit=9)
    same = ("message_id", "error", "traceback", "died_at", "first_at", "edge", "run", "message", "fingerprint")
    assert [getattr(restored, name) for name in same] == [getattr(letter, name) for name in same]
    await letters.put_back()
    assert (await worker.balance()).waiting == 1


async def test_letters_of_a_stage_that_does_not_exist_cannot_be_fixed(worker: Worker, letters: DeadLetters) -> None:
    await bury(worker, 1)

    with pytest.raises(NotFound):
        await letters.fix("nowhere", {"1-1": b"{}"})


async def exported_of(letters: DeadLetters) -> list[DeadLetterRecord]:
    return [
        DeadLetterRecord.from_json(orjson.loads(orjson.dumps(letter.as_json())))
        for letter in await letters.first(limit=99)
    ]


async def test_a_letter_that_is_still_there_is_not_restored_and_runs_once(
    worker: Worker, letters: DeadLetters, keys: Keys, redis: Command
) -> None:
    await bury(worker, 1, 2, 3)
    exported = await exported_of(letters)
    await letters.remove(Selection(ids=[exported[0].id]))

    for _ in range(3):
        assert sum((await letters.restore(exported)).values()) <= 1
        await redis(b"DEL", keys.published)  # an hour later
    assert [letter.message["n"] for letter in await letters.first(limit=9)] == [2, 3, 1]
    await letters.put_back()

    assert sorted(await numbers_waiting(worker)) == [1, 2, 3]
    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (4, 1)  # the first died, was removed, and entered again


async def test_a_letter_that_was_put_back_and_is_restored_enters_the_balance_once_more(
    worker: Worker, letters: DeadLetters, keys: Keys, redis: Command
) -> None:
    await Runs(worker.broker).begin("this run", sources=(), signature="", edges=[IN], stages=["parse"])
    worker.broker.run_id = "this run"
    await bury(worker, 1)
    exported = await exported_of(letters)
    await letters.put_back()
    assert await letters.restore(exported) == {"parse": 1}
    await letters.put_back()

    balance = await worker.balance()
    assert (balance.entered, balance.waiting, balance.dead) == (2, 2, 0)
    assert not await redis(b"EXISTS", keys.restored("parse"))


@pytest.mark.parametrize("delay_ms", [0, 60_000])
async def test_a_copy_of_a_message_that_waits_to_be_tried_again_stays_dead(
    delay_ms: int, worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.settle(buried(await worker.given_one()))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    ((_, fields),) = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
    assert (
        await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(letter.entry_id, letter.header, "", 60_000)])
        == 1
    )
    copy = (await redis(b"XADD", keys.dead("parse"), b"*", *fields)).decode()

    assert await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(copy, letter.header, "", delay_ms)]) == 0

    assert len(await StoredLetters(worker.broker, "parse").read()) == 1
    assert await redis(b"ZCARD", keys.delayed(IN)) == 1
    assert await redis(b"XLEN", keys.edge(IN)) == 0
