"""A search for dead letters finds what reading all of them finds, the newest first, in bounded steps."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from flowq.broker.keys import Keys
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter_kinds import entry_id_in
from flowq.dead_letters.letter_search import LetterSearch
from flowq.dead_letters.selection import Selection
from tests.conformance.conftest import Command
from tests.conformance.test_odd_letters import ODD
from tests.conformance.worker import PLAN, Worker

ADD = b"""
for n = 1, #ARGV, 2 do
  redis.call('XADD', KEYS[1], '*', 'e', '>parse', 'h', 'm' .. n .. ' - - 0', 'b', ARGV[n], 'x', ARGV[n + 1])
end
"""


async def added(redis: Command, keys: Keys, *bodies: bytes, error: str = "E") -> None:
    """Letters of `parse` with these messages."""
    info = orjson.dumps({"error": error})
    for n in range(0, len(bodies), 500):
        words = [word for body in bodies[n : n + 500] for word in (body, info)]
        await redis(b"EVAL", ADD, 1, keys.dead("parse"), *words)


def where(*written: str) -> tuple[Condition, ...]:
    return tuple(map(Condition.parse, written))


async def completed(worker: Worker, selection: Selection) -> LetterSearch:
    search = LetterSearch(PLAN, selection)
    while not search.is_complete:
        await search.step(worker.broker)
    return search


def ids_of(search: LetterSearch) -> set[str]:
    kinds = search.matching()
    return {ref.id for kind in kinds.kinds() for ref in kinds.letters(kind.fingerprint, limit=10_000)}


@pytest.mark.parametrize(
    "selection",
    [
        Selection(where=where("n=3")),
        Selection(where=where("n>=7", "of.x~a*")),
        Selection(where=where("gone!=1")),
        Selection(error="V*", where=where("n<5")),
        Selection(stage="parse", error="E"),
        Selection(),
    ],
    ids=str,
)
async def test_it_finds_what_reading_all_letters_finds(
    selection: Selection, worker: Worker, keys: Keys, redis: Command
) -> None:
    await added(redis, keys, *[b'{"n":%d,"of":{"x":"a%d"}}' % (n % 10, n) for n in range(130)])
    await added(redis, keys, *[b'{"n":%d}' % n for n in range(10)], error="ValueError: no")
    for fields in ODD:
        await redis(b"XADD", keys.dead("parse"), b"*", *[word for pair in fields.items() for word in pair])
    letters = [each async for each in DeadLetters(PLAN, worker.broker).each(without_where(selection))]
    readable = [each for each in letters if each.body and not each.is_elsewhere] if selection.where else letters
    expected = {each.id for each in readable if selection.includes(each)}

    search = await completed(worker, selection)

    assert ids_of(search) == expected
    assert search.looked_at == search.total == 140 + len(ODD)
    assert search.unread == len(letters) - len(readable)


def without_where(selection: Selection) -> Selection:
    return Selection(selection.stage, selection.error)


async def test_each_step_is_bounded_and_the_newest_come_first(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys, *[b'{"n":%d}' % n for n in range(250)])
    search = LetterSearch(PLAN, Selection(where=where("n>=0")))

    seen: list[Sequence[str]] = []
    while not search.is_complete:
        await search.step(worker.broker)
        seen.append(sorted(ids_of(search), key=entry_id_in))

    assert [len(ids) for ids in seen] == [100, 200, 250]
    assert seen[0] == seen[2][150:]


async def test_a_step_over_large_messages_ends_early(worker: Worker, keys: Keys, redis: Command) -> None:
    for n in range(8):
        await added(redis, keys, b'{"n":%d,"of":"%s"}' % (n, b"x" * 400_000))
    await added(redis, keys, b'{"n":8,"of":"%s"}' % (b"x" * 2_000_000))
    search = LetterSearch(PLAN, Selection(where=where("n>=0")))

    await search.step(worker.broker)
    assert search.looked_at == 1
    await search.step(worker.broker)
    assert search.looked_at == 4
    while not search.is_complete:
        await search.step(worker.broker)

    assert (len(ids_of(search)), search.unread) == (8, 1)


async def test_an_edited_letter_is_found_by_its_new_message(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys, b'{"n":1}', b'{"n":2}')
    letters = DeadLetters(PLAN, worker.broker)
    first = (await letters.first(limit=1))[0]
    await letters.fix("parse", {first.id: b'{"n":2}'})

    assert len(ids_of(await completed(worker, Selection(where=where("n=2"))))) == 2
    assert not ids_of(await completed(worker, Selection(where=where("n=1"))))


async def test_what_is_found_is_bounded_and_the_rest_is_counted(worker: Worker, keys: Keys, redis: Command) -> None:
    await added(redis, keys, *[b'{"n":1}'] * 2300)

    search = await completed(worker, Selection(where=where("n=1")))

    assert (len(ids_of(search)), search.left_out) == (2000, 300)
