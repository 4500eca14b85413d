"""An index of dead letters says the same as reading all of them, whatever happens to them meanwhile."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from flowq.broker.keys import Keys
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.dead_letters.letter_kinds import OTHER, LetterRef
from flowq.dead_letters.selection import Selection
from tests.conformance.conftest import Command
from tests.conformance.test_odd_letters import ODD
from tests.conformance.worker import PLAN, Worker, buried

PAGE = 3
ADD = b"for _, info in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'h', 'm - - 0', 'b', '{}', 'x', info) end"


async def died(worker: Worker, *errors: BaseException) -> None:
    """Let one message die of each error."""
    await worker.publish(*[b"{}"] * len(errors))
    deliveries = await worker.read(len(errors))
    await worker.settle(*[buried(one, error=error) for one, error in zip(deliveries, errors, strict=True)])


async def added(redis: Command, keys: Keys, *infos: bytes, stage: str = "parse") -> None:
    """Add letters by their infos."""
    for n in range(0, len(infos), 500):
        await redis(b"EVAL", ADD, 1, keys.dead(stage), *infos[n : n + 500])


def info(error: str, **more: object) -> bytes:
    return orjson.dumps({"error": error, **more})


async def up_to_date(worker: Worker, index: DeadLetterIndex) -> DeadLetterIndex:
    while await index.step(worker.broker):
        pass
    return index


def all_of(index: DeadLetterIndex, kind: str) -> list[LetterRef]:
    found: list[LetterRef] = []
    while page := index.letters(kind, after=found[-1] if found else None, limit=PAGE):
        found += page
    return found


async def read(worker: Worker) -> Sequence[tuple[object, ...]]:
    """The kinds as reading all letters finds them."""
    groups = await DeadLetters(PLAN, worker.broker).groups()
    return sorted((each.stage, each.fingerprint, each.error, each.place, each.count) for each in groups)


def told(index: DeadLetterIndex) -> Sequence[tuple[object, ...]]:
    """The kinds as the index has them."""
    return sorted((each.stage, each.fingerprint, each.error, each.place, each.count) for each in index.kinds())


async def test_it_finds_the_same_kinds_as_reading_all_letters(worker: Worker, keys: Keys, redis: Command) -> None:
    await died(worker, *[ValueError(f"row {n}") for n in range(7)], KeyError("price"), *[OSError()] * 2)
    for fields in ODD:
        await redis(b"XADD", keys.dead("parse"), b"*", *[word for pair in fields.items() for word in pair])

    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    assert told(index) == await read(worker)
    assert index.read == index.total == 10 + len(ODD)


async def test_pages_and_neighbours_are_those_of_the_list(worker: Worker) -> None:
    await died(worker, *[error for n in range(8) for error in (ValueError(f"row {n}"), KeyError("price"))])

    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    listed = [each async for each in DeadLetters(PLAN, worker.broker).each(Selection(error="ValueError*"))]
    kind = listed[0].fingerprint
    found = all_of(index, kind)
    assert [each.id for each in found] == [each.id for each in listed]
    for n, each in enumerate(found):
        around = index.around(kind, each.id)
        assert around is not None
        assert (around.position, around.count) == (n + 1, 8)
        assert around.previous == (found[n - 1] if n else None)
        assert around.following == (found[n + 1] if n < 7 else None)
    assert index.around(kind, "1-1") is None
    assert index.around("12345678", found[0].id) is None


async def test_only_what_has_died_since_is_read(worker: Worker) -> None:
    await died(worker, ValueError("no"))
    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    await died(worker, ValueError("no"), KeyError("price"))
    assert index.read == 1
    await index.step(worker.broker)

    assert told(index) == await read(worker)


async def test_letters_that_were_put_back_are_forgotten(worker: Worker) -> None:
    await died(worker, *[ValueError(f"row {n}") for n in range(5)], KeyError("price"))
    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    await DeadLetters(PLAN, worker.broker).put_back(Selection(error="*row 3"))
    await DeadLetters(PLAN, worker.broker).remove(Selection(error="KeyError*"))
    await died(worker, OSError("new"), OSError("new"))
    await up_to_date(worker, index)

    assert told(index) == await read(worker)
    assert [each.count for each in index.kinds(error="*row 4")] == [1]


async def test_it_is_right_whatever_was_added_and_removed_while_it_read(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    chance = random.Random(15)
    letters = DeadLetters(PLAN, worker.broker)
    index = DeadLetterIndex(PLAN)
    await added(redis, keys, *[info(f"row {n}") for n in range(1100)], *[info("E")] * 300)

    for _ in range(6):
        await added(redis, keys, *[info(chance.choice("ABC")) for _ in range(chance.randrange(9))])
        if chance.random() < 0.5:
            await index.step(worker.broker)
        there = await redis(b"XRANGE", keys.dead("parse"), b"-", b"+")
        some = Selection(ids=[chance.choice(there)[0].decode() for _ in range(3)])
        await (letters.remove(some) if chance.random() < 0.5 else letters.put_back(some))
        await index.step(worker.broker)
    await letters.remove(Selection(error="row*"))  # now there are few enough to be compared at once
    await up_to_date(worker, index)

    assert told(index) == await read(worker)


async def test_many_letters_are_compared_once_a_minute_at_most(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys, *[info("E")] * 1100)
    index = await up_to_date(worker, DeadLetterIndex(PLAN))
    letters = DeadLetters(PLAN, worker.broker)

    await letters.remove(Selection(limit=10))
    await up_to_date(worker, index)
    first_seen = index.read, index.total
    await letters.remove(Selection(limit=10))
    await up_to_date(worker, index)

    assert first_seen == (1090, 1090)
    assert (index.read, index.total) == (1090, 1080)


async def test_a_stream_that_was_removed_is_read_again_even_with_lower_ids(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await added(redis, keys, *[info("E")] * 3)
    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    await redis(b"DEL", keys.dead("parse"))
    await redis(b"XADD", keys.dead("parse"), b"5-1", b"x", info("before"))
    await up_to_date(worker, index)

    assert [(kind.error, kind.count) for kind in index.kinds()] == [("before", 1)]


async def test_letters_that_were_exported_and_restored_count_when_they_died(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await added(redis, keys, info("E"), info("E", died_ms=1_000), info("E", died_ms=30_999))

    index = await up_to_date(worker, DeadLetterIndex(PLAN))

    (kind,) = index.kinds()
    assert kind.first_died_ms == 1_000
    (late,) = index.kinds(since=datetime.fromtimestamp(40, UTC))
    assert late.count == 1
    assert kind.counts == (2, *[0] * 28, 1)


async def test_hostile_letters_take_bounded_memory_and_time(worker: Worker, keys: Keys, redis: Command) -> None:
    chance = random.Random(15)
    names = ["".join(chance.choices("ghijklmnop", k=12)) for _ in range(2500)]
    await added(redis, keys, *[info(name, place=name * 9) for name in names])
    await added(redis, keys, *[info("a-" * 200_000, traceback='  File "' * 50_000) for _ in range(20)])
    await added(redis, keys, b"[" * 2_000_000, info("x" * 1_500_000))

    tracemalloc.start()
    index = await up_to_date(worker, DeadLetterIndex(PLAN))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert index.read == index.total == 2522
    assert len(index.kinds()) <= 2001
    assert index.kinds()[0].fingerprint == OTHER
    assert held < 8_000_000
    assert peak < 40_000_000
    assert all(len(kind.error) <= 500 for kind in index.kinds())
