"""Dead letters that flowq did not write are listed, shown and put back like others; a file of them is checked."""

from __future__ import annotations

from io import BufferedReader
from tempfile import TemporaryFile
from typing import cast

import orjson
import pytest

from flowq.broker.keys import Keys
from flowq.cli.dead_letters.dlq_files import BadLetter, Importer
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.selection import Selection
from tests.conformance.conftest import Command
from tests.conformance.worker import IN, PLAN, Worker, buried

ODD = [
    {"x": b'{"died_ms":"soon"}'},
    {"x": b'{"died_ms":1e300,"first_ms":-5}'},
    {"x": b'{"first_ms":[1],"error":{"a":1},"traceback":7}'},
    {"x": b"[" * 4000},
    {"x": b"\xff"},
    {"e": b"\xff", "h": b"\xff", "b": b"\xff"},
    {"h": b"x - - " + b"9" * 5000},
    {"h": b"x - - 0 f=" + b"9" * 15},
    {"h": b"x - - 0 p=W1tbW1tbW1tb"},
    {"h": b"x - - 0 e=file", "b": b"../../etc/passwd 5"},
    {"x": b'{"error":"E","traceback":"  File \\"f\\", line ' + b"9" * 5000 + b', in g"}'},
    {"": b""},
]


async def test_no_letter_hides_the_others_and_all_go_back(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.settle(buried(await worker.given_one()))
    for fields in ODD:
        flat = [value for name, text in fields.items() for value in (name.encode(), text)]
        await redis(b"XADD", keys.dead("parse"), b"*", *flat)
    await redis(b"XADD", keys.dead("parse"), b"18446744073709551615-1", b"b", b"1")
    letters = DeadLetters(PLAN, worker.broker)
    n = len(ODD) + 2

    shown = [orjson.dumps(letter.as_json()) async for letter in letters.each()]
    groups = [orjson.dumps(group.as_json()) for group in await letters.groups()]
    back = await letters.put_back()

    assert (len(shown), bool(groups), back) == (n, True, {"parse": n})
    assert len(await worker.read()) == n


async def exported(worker: Worker) -> dict[str, object]:
    """The one letter there is, as `flowq dlq export` writes it. It is removed."""
    letters = DeadLetters(PLAN, worker.broker)
    (letter,) = await letters.first(limit=2)
    await letters.remove(Selection(ids=[letter.id]))
    return letter.as_json()


async def restored(worker: Worker, *lines: object) -> dict[str, object]:
    importer = Importer(DeadLetters(PLAN, worker.broker), restores=True, puts_back=False)
    with TemporaryFile() as file:
        file.writelines(orjson.dumps(line) + b"\n" for line in lines)
        file.seek(0)
        await importer.read(cast("BufferedReader", file))
    return importer.done.as_json()


CHANGES: list[dict[str, object]] = [
    {"id": "order 42"},
    {"id": f"{2**64}-0"},
    {"id": 5},
    {"header": "x - - " + "9" * 400},
    {"header": None},
    {"died_at": "2026-11-28T00:00:00"},
    {"died_at": "9999-12-31T23:59:59-23:59"},
    {"died_at": "0001-01-01T00:00:00Z"},
    {"first_at": 1700000000000},
    {"error": ["a"]},
    {"edge": {}},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change)[:30])
async def test_a_line_that_is_no_letter_is_refused_by_its_number(change: dict[str, object], worker: Worker) -> None:
    await worker.settle(buried(await worker.given_one()))
    line = await exported(worker)

    with pytest.raises(BadLetter, match="line 2") as caught:
        await restored(worker, line, {**line, "id": "9-9", **change})

    assert caught.value.code == "FQ208"
    assert (await worker.snapshot()).dead_letters["parse"] == 0


async def test_a_letter_with_an_unreadable_header_survives_restore(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"h", b"x - - " + b"9" * 400, b"b", b'{"n":1}')
    await worker.settle(buried(await worker.read_one()))
    line = await exported(worker)

    assert (await restored(worker, line))["restored"] == {"parse": 1}

    again = await exported(worker)
    assert (again["message"], again["message_id"]) == ({"n": 1}, line["message_id"])
