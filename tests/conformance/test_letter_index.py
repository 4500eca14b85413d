"""An index of dead letters tells the same as reading all of them, whatever happens to them meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.keys import Keys
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.dead_letters.letter_kinds import LetterRef
from flowq.dead_letters.selection import Selection
from tests.conformance.conftest import Command
from tests.conformance.test_odd_letters import ODD
from tests.conformance.worker import PLAN, Worker, buried

PAGE = 3


async def died(worker: Worker, *errors: BaseException) -> None:
    """Let one message die of each error."""
    await worker.publish(*[b"{}"] * len(errors))
    deliveries = await worker.read(len(errors))
    await worker.settle(*[buried(one, error=error) for one, error in zip(deliveries, errors, strict=True)])


async def up_to_date(index: DeadLetterIndex) -> DeadLetterIndex:
    while await index.step():
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
    """The same as the index tells it."""
    return sorted((each.stage, each.fingerprint, each.error, each.place, each.count) for each in index.kinds())


async def test_it_tells_the_same_kinds_as_reading_all_letters(worker: Worker, keys: Keys, redis: Command) -> None:
    await died(worker, *[ValueError(f"row {n}") for n in range(7)], KeyError("price"), *[OSError()] * 2)
    for fields in ODD:
        await redis(b"XADD", keys.dead("parse"), b"*", *[word for pair in fields.items() for word in pair])

    index = await up_to_date(DeadLetterIndex(PLAN, worker.broker))

    assert told(index) == await read(worker)
    assert index.read == index.total == 10 + len(ODD)


async def test_pages_and_neighbours_are_those_of_the_list(worker: Worker) -> None:
    await died(worker, *[error for n in range(8) for error in (ValueError(f"row {n}"), KeyError("price"))])

    index = await up_to_date(DeadLetterIndex(PLAN, worker.broker))

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
    index = await up_to_date(DeadLetterIndex(PLAN, worker.broker))

    await died(worker, ValueError("no"), KeyError("price"))
    assert index.read == 1
    await index.step()

    assert told(index) == await read(worker)


async def test_letters_that_were_put_back_are_forgotten(worker: Worker) -> None:
    await died(worker, *[ValueError(f"row {n}") for n in range(5)], KeyError("price"))
    index = await up_to_date(DeadLetterIndex(PLAN, worker.broker))

    await DeadLetters(PLAN, worker.broker).put_back(Selection(error="*row 3"))
    await DeadLetters(PLAN, worker.broker).remove(Selection(error="KeyError*"))
    await died(worker, OSError("new"), OSError("new"))
    await up_to_date(index)

    assert told(index) == await read(worker)
    assert [each.count for each in index.kinds(error="*row 4")] == [1]
