"""Large bodies are kept outside of Redis on their way through a pipeline, and Redis stays small."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import Context, Dedup, Pipeline, Rate, source, stage
from flowq.broker.keys import Keys
from flowq.dead_letters.kept import Kept
from flowq.inspector import Inspector
from tests.body_stores import AnyStore
from tests.eventually import eventually
from tests.redis_server import RedisServer
from tests.runtime import process_stages
from tests.runtime.lab import Item, Lab
from tests.runtime.large_bodies import (
    MEGABYTE,
    QUICKLY,
    Page,
    entries,
    page,
    released,
)


@pytest.fixture
def lab(lab: Lab, body_store: AnyStore) -> Lab:
    lab.claims = body_store.location
    return lab


async def test_large_bodies_pass_two_stages_once_while_redis_holds_hardly_any_bytes(body_store: AnyStore) -> None:
    n, got = 30, list[tuple[int, str]]()

    @stage(claim_above=100_000, max_bytes=5 * MEGABYTE)
    async def parse(page: Page) -> Page:
        return Page(n=page.n, html=page.html[::-1])

    @stage(claim_above=100_000, max_bytes=5 * MEGABYTE)
    async def store(page: Page) -> None:
        got.append((page.n, hashlib.sha256(page.html.encode()).hexdigest()))

    pages = [page(i, size=MEGABYTE) for i in range(n)]
    with RedisServer("bundled") as server:
        lab = Lab.at(server.url, "t")
        lab.claims = body_store.location
        try:
            pipeline = Pipeline("p", parse >> store)
            await lab.push(pipeline, parse, *pages)
            await lab.run(pipeline)
            info = (await lab.command(b"INFO", b"memory")).decode()
        finally:
            await lab.close()

    assert sorted(got) == [(each.n, hashlib.sha256(each.html[::-1].encode()).hexdigest()) for each in pages]
    peak = int(next(line for line in info.splitlines() if line.startswith("used_memory_peak:")).partition(":")[2])
    carried = 2 * sum(len(each.html) for each in pages)
    assert peak < carried / 10, f"{peak:,} bytes in Redis at {carried:,} bytes carried"


async def test_only_bodies_above_the_size_are_stored_and_go_when_settled(lab: Lab, body_store: AnyStore) -> None:
    got: list[Page] = []

    @stage(claim_above=5000, compress=True)
    async def keep(page: Page) -> None:
        got.append(page)

    squeezable, small, large = Page(html="again " * 5000), page(1, size=3000), page(2)
    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, squeezable, small, large)

    words = [fields[1].partition(b" e=")[2] for _, fields in await entries(lab, "edge:>keep")]
    assert words == [b"zstd", b"zstd", b"file+zstd"]
    assert len(body_store.paths()) == 1

    await lab.run(pipeline)
    assert got == [squeezable, small, large]
    assert await released(lab) == body_store.paths()


async def test_a_source_that_waits_for_room_writes_each_body_once(lab: Lab, body_store: AnyStore) -> None:
    n, got, go = 30, list[int](), asyncio.Event()

    @source
    def pages() -> Iterator[Page]:
        yield from (page(i) for i in range(n))

    @stage(claim_above=5000, maxsize=2, concurrency=1)
    async def keep(page: Page) -> None:
        await go.wait()
        got.append(page.n)

    running = asyncio.create_task(lab.run(Pipeline("p", pages >> keep)))
    await eventually(lambda: len(body_store.paths()) >= 3)
    go.set()
    await running
    assert sorted(got) == list(range(n))
    assert len(body_store.paths()) == n


async def test_what_is_delayed_and_what_goes_to_several_edges_has_own_files(lab: Lab, body_store: AnyStore) -> None:
    got: list[str] = []

    @stage(claim_above=5000)
    async def late(page: Page) -> None:
        got.append(f"late {page.n}")

    @stage
    async def fetch(item: Item, ctx: Context) -> Page:
        ctx.emit(late, page(2), delay=0.2)
        return page(1)

    @stage(claim_above=5000)
    async def one(page: Page) -> None:
        got.append(f"one {page.n}")

    @stage(claim_above=5000)
    async def two(page: Page) -> None:
        got.append(f"two {page.n}")

    pipeline = Pipeline("p", fetch >> (one, two), late)
    await lab.push(pipeline, fetch, Item())
    await lab.run(pipeline)

    assert sorted(got) == ["late 2", "one 1", "two 1"]
    assert await released(lab) == body_store.paths()
    assert len(body_store.paths()) == 3


async def test_the_files_of_what_a_stage_has_seen_before_are_released_at_once(lab: Lab, body_store: AnyStore) -> None:
    @stage
    async def fetch(item: Item) -> Page:
        return page(1)

    @stage(claim_above=5000, dedup="n")
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", fetch >> keep)
    await lab.push(pipeline, keep, page(1), page(1))
    assert (len(await entries(lab, "edge:>keep")), len(await released(lab)), len(body_store.paths())) == (1, 1, 2)

    await lab.run(pipeline, Item(), Item())
    assert await released(lab) == body_store.paths()
    assert len(body_store.paths()) == 4


async def test_the_file_of_a_message_that_a_later_one_replaces_is_released(lab: Lab, body_store: AnyStore) -> None:
    got: list[str] = []

    @stage
    async def fetch(item: Item) -> Page:
        return Page(n=1, html="b" * 20_000)

    @stage(claim_above=5000, dedup=Dedup("n", keep="last"))
    async def keep(page: Page) -> None:
        got.append(page.html[:1])

    pipeline = Pipeline("p", fetch >> keep)
    for text in "xyza":  # by another process each: it has stored no body itself
        await lab.push(pipeline, keep, Page(n=1, html=text * 20_000))
    assert (len(await entries(lab, "edge:>keep")), len(await released(lab))) == (1, 3)

    await lab.run(pipeline, Item())
    assert await released(lab) == body_store.paths()
    assert (len(got), len(body_store.paths())) == (1, 5)


async def test_a_message_retried_buried_and_put_back_keeps_its_one_file(lab: Lab, body_store: AnyStore) -> None:
    seen: list[Page] = []
    fixed = False

    @stage(claim_above=5000, retry=QUICKLY)
    async def keep(page: Page) -> None:
        seen.append(page)
        if not fixed:
            raise ValueError("not yet")

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(7))
    letter = await lab.letter(pipeline, keep)

    assert seen == [page(7)] * 3
    assert (letter.message, letter.is_elsewhere) == (page(7).model_dump(), False)
    assert len(body_store.paths()) == 1
    assert await released(lab) == []

    fixed = True
    await Inspector(pipeline.plan, lab.broker(pipeline)).retry_dead_letters()
    await lab.run(pipeline)
    assert seen == [page(7)] * 4
    assert await released(lab) == body_store.paths()


async def test_a_batch_gets_its_bodies_and_counts_their_bytes(lab: Lab, body_store: AnyStore) -> None:
    batches: list[list[int]] = []

    @stage(claim_above=5000, batch=10, linger=0.3, batch_bytes=70_000)
    async def keep(pages: list[Page]) -> None:
        batches.append([page.n for page in pages])

    await lab.run(Pipeline("p", keep), *(page(n, size=20_000) for n in range(9)))

    assert sorted(n for batch in batches for n in batch) == list(range(9))
    assert max(map(len, batches)) == 3
    assert await released(lab) == body_store.paths()


async def test_a_stage_in_other_processes_gets_the_body(lab: Lab, body_store: AnyStore) -> None:
    pipeline = process_stages.claiming
    words = "word " * 10_000
    await lab.push(pipeline, "count_words", process_stages.Words(text=words))
    lab.namespace, name = lab.namespace, pipeline.name
    assert len(body_store.paths()) == 1
    await lab.run(pipeline)

    counted: list[Any] = await lab.command(b"HGET", Keys(lab.namespace, name).stats, b"ok:count_words")
    assert counted == b"1"


async def test_keys_are_paced_by_what_the_body_says(lab: Lab) -> None:
    started: list[tuple[str, float]] = []

    @stage(claim_above=5000, rate=Rate(5, per=1, by="host"), concurrency=20)
    async def fetch(page: Page) -> None:
        started.append((page.host, asyncio.get_running_loop().time()))

    hosts = ["a"] * 3 + ["b"] * 3
    began_at = asyncio.get_running_loop().time()
    await lab.run(Pipeline("p", fetch), *(page(n, host=host) for n, host in enumerate(hosts)))

    for host in "ab":
        starts = sorted(time - began_at for name, time in started if name == host)
        # A start may be later than its turn, which makes the next gap look short, but it is never earlier.
        assert all(start >= n / 5 for n, start in enumerate(starts)), starts


async def test_an_acknowledged_message_keeps_its_file_until_its_handler_ends(lab: Lab, body_store: AnyStore) -> None:
    fails, seen = True, list[int]()

    @stage(claim_above=5000, ack="first")
    async def first(page: Page) -> None:
        seen.append(page.n)
        if fails:
            raise ValueError("too late for a retry")

    pipeline = Pipeline("p", first)
    await lab.run(pipeline, page(3))
    letter = await lab.letter(pipeline, first)
    assert letter.message == page(3).model_dump()
    assert await released(lab) == []

    fails = False
    await Inspector(pipeline.plan, lab.broker(pipeline)).retry_dead_letters()
    await lab.run(pipeline)
    assert seen == [3, 3]
    assert await released(lab) == body_store.paths()


async def test_a_handler_that_settles_by_itself_gives_large_bodies_before_and_after_that(
    lab: Lab, body_store: AnyStore
) -> None:
    got: list[int] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page.n)

    @stage(claim_above=5000, ack="manual")
    async def fetch(each: Page, ctx: Context) -> Page:
        ctx.emit(keep, page(1))
        await ctx.ack()
        return page(2)

    pipeline = Pipeline("p", fetch >> keep)
    await lab.push(pipeline, fetch, page(0))
    await lab.run(pipeline)

    assert sorted(got) == [1, 2]
    assert len(body_store.paths()) == 3
    assert await released(lab) == body_store.paths()


async def test_what_goes_to_the_folder_does_not_count_for_what_one_message_may_give(lab: Lab) -> None:
    sizes: list[int] = []

    @stage
    async def fetch(item: Item) -> list[bytes]:
        return [b"x" * 35_000_000] * 2

    @stage(claim_above=MEGABYTE, max_bytes=40 * MEGABYTE, concurrency=1)
    async def keep(body: bytes) -> None:
        sizes.append(len(body))

    await lab.run(Pipeline("p", fetch >> keep), Item())
    assert sizes == [35_000_000] * 2


async def test_what_a_stage_keeps_keeps_its_file_and_runs_again_from_it(lab: Lab) -> None:
    seen: list[Page] = []

    @stage(claim_above=5000, keep=10)
    async def keep(page: Page) -> None:
        seen.append(page)

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(5))
    assert await released(lab) == []

    assert await Kept(pipeline.plan, lab.broker(pipeline), "keep").replay() == 1
    await lab.run(pipeline)
    assert seen == [page(5)] * 2


async def test_messages_that_are_in_the_store_are_read_when_the_option_is_gone(lab: Lab) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    await lab.push(Pipeline("p", keep), keep, page(4))
    await lab.run(Pipeline("p", keep.options(claim_above=None)))  # pyright: ignore[reportArgumentType]
    assert got == [page(4)]
