"""Large messages: compressed above one size, refused above another, unchanged for every reader."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import Pipeline, Rate, Reject, stage
from flowq.broker.keys import Keys
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.inspector import Inspector
from tests.runtime.lab import Item, Lab


class Page(BaseModel):
    host: str = "a"
    html: str = ""


PAGE = Page(html="<p>again</p>" * 1000)


async def stored(lab: Lab, edge: str) -> list[tuple[bytes, bytes]]:
    entries: Any = await lab.command(b"XRANGE", Keys(lab.namespace, "p").edge(edge), b"-", b"+")
    return [(fields[1], fields[3]) for _, fields in entries]


async def test_only_what_is_above_the_size_is_compressed_and_marked(lab: Lab) -> None:
    got: list[Page] = []

    @stage(compress=1000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline, small = Pipeline("p", keep), Page(html="x" * 900)
    await lab.push(pipeline, keep, small, PAGE)

    (small_header, small_body), (header, body) = await stored(lab, ">keep")
    assert (b"=" in small_header, small_body) == (False, small.model_dump_json().encode())
    assert header.endswith(b" e=zstd")
    assert len(body) < 200
    await lab.run(pipeline)
    assert got == [small, PAGE]


async def test_each_of_several_edges_has_it_as_its_stage_asks_and_all_get_the_same(any_lab: Lab) -> None:
    lab, got = any_lab, dict[str, Page | Item]()

    @stage
    async def fetch(item: Item) -> Page:
        return PAGE

    @stage(compress=True)
    async def parse(page: Page | Item) -> Page | None:
        got["parse"] = page
        return None

    @stage
    async def keep(page: Page) -> None:
        got["keep"] = page

    @stage(compress=5000, rate=Rate(1000, by="host"))
    async def paced(page: Page) -> None:
        got["paced"] = page

    await lab.run(Pipeline("p", fetch >> (parse, keep, paced)), Item())

    assert got == {"parse": PAGE, "keep": PAGE, "paced": PAGE}


async def test_bytes_that_compression_cannot_make_smaller_stay_as_they_are(lab: Lab) -> None:
    noise = os.urandom(5000)

    @stage(compress=True)
    async def keep(blob: bytes) -> None: ...

    await lab.push(Pipeline("p", keep), keep, noise)

    ((header, body),) = await stored(lab, ">keep")
    assert (b"=" in header, body) == (False, noise)


async def test_a_compressed_message_is_retried_buried_shown_and_put_back_like_any_other(lab: Lab) -> None:
    got: list[Page] = []
    fixed = False

    @stage(compress=True)
    async def keep(page: Page) -> None:
        if not fixed:
            raise Reject("not yet")
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, PAGE)
    letter = await lab.letter(pipeline, keep)

    assert letter.body == PAGE.model_dump_json().encode()
    assert letter.message == PAGE.model_dump()

    fixed = True
    await Inspector(pipeline.plan, lab.broker(pipeline)).retry_dead_letters()
    await lab.run(pipeline)
    assert got == [PAGE]


async def test_a_compressed_letter_is_fixed_exported_and_imported_uncompressed(lab: Lab) -> None:
    got: list[Page] = []

    @stage(compress=True)
    async def keep(page: Page) -> None:
        if page == PAGE:
            raise Reject("not this")
        got.append(page)

    pipeline, other = Pipeline("p", keep), Page(host="b", html=PAGE.html)
    await lab.run(pipeline, PAGE)
    letter = await lab.letter(pipeline, keep)

    assert DeadLetterRecord.from_json(letter.as_json()).plain_header == letter.plain_header
    assert " e=" not in letter.as_json()["header"]

    repair = DeadLetters(pipeline.plan, lab.broker(pipeline))
    await repair.fix("keep", {letter.id: other.model_dump_json().encode()}, and_put_back=True)
    await lab.run(pipeline)
    assert got == [other]


async def test_the_limit_is_for_what_the_stage_gets_not_for_what_is_stored(lab: Lab) -> None:
    @stage
    async def fetch(item: Item) -> Page:
        return PAGE

    @stage(compress=True, max_bytes=10_000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", fetch >> keep)
    await lab.run(pipeline, Item())

    letter = await lab.letter(pipeline, fetch)
    assert letter.reason == "unencodable"
    assert letter.error == "PayloadTooLarge: a message of 12,022 bytes for keep, which accepts at most 10,000"


@pytest.mark.parametrize("body", [b"no zstd", b""])
async def test_a_body_that_is_not_what_its_header_says_is_a_dead_letter(body: bytes, lab: Lab) -> None:
    @stage
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.command(b"XADD", Keys(lab.namespace, "p").edge(">keep"), b"*", b"h", b"m - - 0 e=zstd", b"b", body)
    await lab.command(b"HINCRBY", Keys(lab.namespace, "p").stats, b"in:>keep", 1)
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, keep)
    assert (letter.reason, letter.body) == ("undecodable", body)
    assert letter.error.startswith("DecodeError: damaged zstd data")
