"""Large bodies lie in the claim folder: Redis stays small, nothing is lost, and no file is deleted that is needed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import Context, Pipeline, Publisher, Rate, Reject, Retry, source, stage
from flowq.broker.claims import check_claim_folder
from flowq.broker.keys import Keys
from flowq.broker.orphaned_bodies import orphaned_bodies
from flowq.broker.released import delete_released
from flowq.errors import BodyElsewhere, NoClaimFolder, QueueFull, WrongClaimFolder
from flowq.inspector import Inspector
from flowq.repair.dead_letters import DeadLetters
from flowq.repair.kept import Kept
from tests.eventually import eventually
from tests.redis_server import RedisServer
from tests.runtime import process_stages
from tests.runtime.lab import Item, Lab

MEGABYTE = 1_000_000
QUICKLY = Retry(attempts=3, base=0.01, max=0.01)


class Page(BaseModel):
    n: int = 0
    host: str = "a"
    html: str = "x"


def page(n: int = 0, *, size: int = 20_000, host: str = "a") -> Page:
    """A page that no compression makes much smaller."""
    return Page(n=n, host=host, html=random.Random(n).randbytes(size // 2).hex())


@pytest.fixture
def lab(lab: Lab, tmp_path: Path) -> Lab:
    """A laboratory with a folder for large bodies."""
    lab.claims = tmp_path / "claims"
    lab.claims.mkdir()
    return lab


def files(lab: Lab) -> list[Path]:
    assert lab.claims is not None
    return sorted(file for file in lab.claims.rglob("[!.]*") if file.is_file())


def age(lab: Lab, *, days: float = 2) -> None:
    """Make all files look as if they had been written so long ago."""
    for file in files(lab):
        then = file.stat().st_mtime - days * 86_400
        os.utime(file, (then, then))


async def entries(lab: Lab, key: str) -> list[Any]:
    found: list[Any] = await lab.command(b"XRANGE", f"{lab.namespace}:{{p}}:{key}", b"-", b"+")
    return found


async def released(lab: Lab) -> list[str]:
    """The paths of all files whose release is noted."""
    lines = b"".join(fields[1] for _, fields in await entries(lab, "released")).decode().split("\n")
    return sorted(line.split()[0] for line in lines if line)


def paths(lab: Lab) -> list[str]:
    assert lab.claims is not None
    return sorted(f"{file.parent.name}/{file.name}" for file in files(lab))


async def orphans(lab: Lab, pipeline: Pipeline) -> list[str]:
    found = await orphaned_bodies(lab.broker(pipeline), pipeline.plan, older_than_seconds=86_400)
    return sorted(found.paths)


# Passing through


async def test_large_bodies_pass_two_stages_once_while_redis_holds_hardly_any_of_their_bytes(tmp_path: Path) -> None:
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
        lab.claims = tmp_path
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


async def test_only_bodies_above_the_size_as_stored_lie_in_the_folder_and_go_when_they_are_settled(lab: Lab) -> None:
    got: list[Page] = []

    @stage(claim_above=5000, compress=True)
    async def keep(page: Page) -> None:
        got.append(page)

    squeezable, small, large = Page(html="again " * 5000), page(1, size=3000), page(2)
    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, squeezable, small, large)

    words = [fields[1].partition(b" e=")[2] for _, fields in await entries(lab, "edge:>keep")]
    assert words == [b"zstd", b"zstd", b"file+zstd"]
    assert len(files(lab)) == 1

    await lab.run(pipeline)
    assert got == [squeezable, small, large]
    assert await released(lab) == paths(lab)


async def test_a_source_that_waits_for_room_writes_each_body_once(lab: Lab) -> None:
    n, got, go = 30, list[int](), asyncio.Event()

    @source
    def pages() -> Iterator[Page]:
        yield from (page(i) for i in range(n))

    @stage(claim_above=5000, maxsize=2, concurrency=1)
    async def keep(page: Page) -> None:
        await go.wait()
        got.append(page.n)

    running = asyncio.create_task(lab.run(Pipeline("p", pages >> keep)))
    await eventually(lambda: len(files(lab)) >= 3)
    go.set()
    await running
    assert sorted(got) == list(range(n))
    assert len(files(lab)) == n


async def test_what_is_emitted_with_a_delay_and_what_goes_to_several_edges_has_files_of_its_own(lab: Lab) -> None:
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
    assert await released(lab) == paths(lab)
    assert len(files(lab)) == 3


async def test_the_files_of_what_a_stage_has_seen_before_are_released_at_once(lab: Lab) -> None:
    @stage
    async def fetch(item: Item) -> Page:
        return page(1)

    @stage(claim_above=5000, dedup="n")
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", fetch >> keep)
    await lab.push(pipeline, keep, page(1), page(1))
    assert (len(await entries(lab, "edge:>keep")), len(await released(lab)), len(files(lab))) == (1, 1, 2)

    await lab.run(pipeline, Item(), Item())
    assert await released(lab) == paths(lab)
    assert len(files(lab)) == 4


async def test_a_message_retried_buried_and_put_back_keeps_its_one_file(lab: Lab) -> None:
    seen: list[Page] = []
    mended = False

    @stage(claim_above=5000, retry=QUICKLY)
    async def keep(page: Page) -> None:
        seen.append(page)
        if not mended:
            raise ValueError("not yet")

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(7))
    letter = await lab.letter(pipeline, keep)

    assert seen == [page(7)] * 3
    assert (letter.message, letter.is_elsewhere) == (page(7).model_dump(), False)
    assert len(files(lab)) == 1
    assert await released(lab) == []

    mended = True
    await Inspector(pipeline.plan, lab.broker(pipeline)).replay()
    await lab.run(pipeline)
    assert seen == [page(7)] * 4
    assert await released(lab) == paths(lab)


async def test_a_batch_gets_its_bodies_and_counts_their_bytes(lab: Lab) -> None:
    batches: list[list[int]] = []

    @stage(claim_above=5000, batch=10, linger=0.3, batch_bytes=70_000)
    async def keep(pages: list[Page]) -> None:
        batches.append([page.n for page in pages])

    await lab.run(Pipeline("p", keep), *(page(n, size=20_000) for n in range(9)))

    assert sorted(n for batch in batches for n in batch) == list(range(9))
    assert max(map(len, batches)) == 3
    assert await released(lab) == paths(lab)


async def test_a_stage_in_other_processes_gets_the_body(lab: Lab) -> None:
    pipeline = process_stages.claiming
    words = "word " * 10_000
    await lab.push(pipeline, "count_words", process_stages.Words(text=words))
    lab.namespace, name = lab.namespace, pipeline.name
    assert len(files(lab)) == 1
    await lab.run(pipeline)

    counted: list[Any] = await lab.command(b"HGET", Keys(lab.namespace, name).stats, b"ok:count_words")
    assert counted == b"1"


async def test_keys_are_paced_by_what_the_body_says(lab: Lab) -> None:
    started: list[tuple[str, float]] = []

    @stage(claim_above=5000, rate=Rate(5, per=1, by="host"), concurrency=20)
    async def fetch(page: Page) -> None:
        started.append((page.host, asyncio.get_running_loop().time()))

    hosts = ["a"] * 3 + ["b"] * 3
    await lab.run(Pipeline("p", fetch), *(page(n, host=host) for n, host in enumerate(hosts)))

    for host in "ab":
        at = sorted(time for name, time in started if name == host)
        assert at[-1] - at[0] > 0.35, f"three messages of {host} at 5 a second took {at[-1] - at[0]:.2f} s"


async def test_an_acknowledged_message_keeps_its_file_until_its_handler_has_ended_well(lab: Lab) -> None:
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
    await Inspector(pipeline.plan, lab.broker(pipeline)).replay()
    await lab.run(pipeline)
    assert seen == [3, 3]
    assert await released(lab) == paths(lab)


async def test_a_handler_that_settles_by_itself_gives_large_bodies_before_and_after_that(lab: Lab) -> None:
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
    assert len(files(lab)) == 3
    assert await released(lab) == paths(lab)


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


async def test_messages_that_lie_in_the_folder_are_read_when_the_option_is_gone(lab: Lab) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    await lab.push(Pipeline("p", keep), keep, page(4))
    await lab.run(Pipeline("p", keep.options(claim_above=None)))  # pyright: ignore[reportArgumentType]
    assert got == [page(4)]


# Faults


async def test_a_redis_that_forgets_its_last_settlements_finds_the_bodies_of_what_runs_again(tmp_path: Path) -> None:
    runs: list[int] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        runs.append(page.n)

    pipeline = Pipeline("p", keep)
    with RedisServer("bundled") as server:
        lab = Lab.at(server.url, "t")
        lab.claims = tmp_path
        try:
            await lab.push(pipeline, keep, *map(page, range(5)))
            await lab.command(b"SAVE")
            await lab.run(pipeline)
            await delete_released(lab.broker(pipeline))
            assert len(await released(lab)) == 5

            server.kill()
            server.start()  # from the snapshot: the settlements are forgotten, and the releases with them
            assert await released(lab) == []
            await lab.run(pipeline)
        finally:
            await lab.close()

    assert sorted(runs) == sorted([*range(5)] * 2)


async def test_a_file_is_deleted_when_its_release_is_a_minute_old_and_the_note_of_it_then(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1), page(2))
    bodies = [fields[3] for _, fields in await entries(lab, "edge:>keep")]
    key, now = Keys(lab.namespace, "p").released, await lab.command(b"TIME")
    for body, seconds_ago in zip(bodies, (61, 55), strict=True):
        note = b"rubbish\n../../gone 5\n" + body + b"\n"
        await lab.command(b"XADD", key, f"{(int(now[0]) - seconds_ago) * 1000}-0", b"r", note)

    assert await delete_released(lab.broker(pipeline)) == 1
    assert paths(lab) == [bodies[1].split()[0].decode()]
    ((_, fields),) = await entries(lab, "released")
    assert bodies[1] in fields[1]


@pytest.mark.parametrize("leaves", ["a mount point", "nothing"])
async def test_messages_wait_for_a_folder_that_is_missing_and_go_on_when_it_is_there(leaves: str, lab: Lab) -> None:
    got, go = list[Page](), asyncio.Event()

    @stage(claim_above=5000, concurrency=1)
    async def keep(page: Page) -> None:
        await go.wait()
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1), page(2))
    assert lab.claims is not None
    async with lab.running(pipeline) as runner:
        await eventually(lambda: not runner.is_idle)
        elsewhere = lab.claims.rename(lab.claims.with_name("unmounted"))
        if leaves == "a mount point":
            lab.claims.mkdir()
        go.set()
        await eventually(lambda: entries_delayed(lab, 1))
        if leaves == "a mount point":
            lab.claims.rmdir()
        elsewhere.rename(lab.claims)
        await eventually(lambda: len(got) == 2)
    assert await lab.letters(pipeline, keep) == []
    assert got == [page(1), page(2)]


async def test_a_worker_with_another_folder_ends_before_it_reads_and_writes_nothing_there(
    lab: Lab, tmp_path: Path
) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    shared, lab.claims = lab.claims, tmp_path / "own"
    lab.claims.mkdir()
    with pytest.raises(WrongClaimFolder) as raised:
        await lab.run(pipeline)
    assert (raised.value.code, files(lab)) == ("FQ211", [])
    with pytest.raises(WrongClaimFolder):
        await lab.push(pipeline, keep, page(2))
    assert files(lab) == []

    await check_claim_folder(lab.broker(pipeline), pipeline.plan, fresh=True)  # as it is told by --fresh
    lab.claims = shared
    with pytest.raises(WrongClaimFolder):
        await lab.run(pipeline)
    await lab.command(b"DEL", Keys(lab.namespace, "p").claims)
    await lab.run(pipeline)
    assert got == [page(1)]


async def test_many_who_begin_at_once_agree_on_one_folder(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    brokers = [lab.broker(pipeline) for _ in range(20)]
    await asyncio.gather(*(check_claim_folder(broker, pipeline.plan) for broker in brokers))
    (name,) = {broker.claims.name for broker in brokers if broker.claims is not None}
    assert await lab.command(b"GET", Keys(lab.namespace, "p").claims) == name.encode()


async def test_a_redis_that_has_lost_everything_takes_the_folder_as_it_is(lab: Lab) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    await lab.command(b"DEL", *await lab.command(b"KEYS", f"{lab.namespace}:*"))
    await lab.run(pipeline, page(2))
    assert got == [page(2)]


async def entries_delayed(lab: Lab, n: int) -> bool:
    delayed: int = await lab.command(b"ZCARD", Keys(lab.namespace, "p").delayed(">keep"))
    return delayed == n


async def test_outputs_wait_for_a_folder_that_cannot_be_written_and_are_given_once(lab: Lab) -> None:
    given, got = list[int](), list[int]()

    @stage
    async def fetch(item: Item) -> Page:
        given.append(item.n)
        return page(item.n)

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page.n)

    assert lab.claims is not None
    pipeline = Pipeline("p", fetch >> keep)
    lab.claims.rmdir()
    async with lab.running(pipeline):
        await lab.push(pipeline, fetch, Item(n=1))
        await eventually(lambda: given == [1])
        assert await lab.command(b"XLEN", Keys(lab.namespace, "p").edge("fetch>keep")) == 0
        lab.claims.mkdir()
        await eventually(lambda: got == [1])
    assert given == [1]


@pytest.mark.parametrize("damage", ["missing", "cut"])
async def test_a_file_that_is_not_there_or_not_whole_makes_a_dead_letter_that_says_so(damage: str, lab: Lab) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    (file,) = files(lab)
    body = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(body[:-1])
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, keep)
    name = f"{file.parent.name}/{file.name}"
    told = f"the claim folder has no file {name}"
    if damage == "cut":
        told = f"file {name} of the claim folder has {len(body) - 1:,} bytes, not {len(body):,}"
    assert (letter.reason, letter.error, letter.is_elsewhere) == ("undecodable", f"BodyLost: {told}", True)

    file.write_bytes(body)
    await Inspector(pipeline.plan, lab.broker(pipeline)).replay()
    await lab.run(pipeline)
    assert got == [page(1)]


@pytest.mark.parametrize(
    "reference", [b"../../../etc/passwd 10", b"/etc/passwd 10", b"ab/" + b"../" * 10 + b" 3", b"", b"ab/" + b"0" * 30]
)
async def test_a_reference_that_leads_out_of_the_folder_is_refused(reference: bytes, lab: Lab) -> None:
    @stage
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.command(b"XADD", Keys(lab.namespace, "p").edge(">keep"), b"*", b"h", b"m - - 0 e=file", b"b", reference)
    await lab.command(b"HINCRBY", Keys(lab.namespace, "p").stats, b"in:>keep", 1)
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, keep)
    assert letter.error == "BodyLost: not a reference to a body in the claim folder"


async def test_a_way_to_store_a_body_that_this_version_does_not_know_is_left_to_others(lab: Lab) -> None:
    """As a version that knows nothing of the claim folder leaves `e=file`."""

    @stage
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.command(b"XADD", Keys(lab.namespace, "p").edge(">keep"), b"*", b"h", b"m - - 0 e=tape", b"b", b"reel 7")
    async with lab.running(pipeline):
        await eventually(lambda: entries_delayed(lab, 1))
    assert await lab.letters(pipeline, keep) == []


async def test_without_a_folder_nothing_is_read_and_the_error_says_what_to_do(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    lab.claims = None
    pipeline = Pipeline("p", keep)
    with pytest.raises(NoClaimFolder) as raised:
        await lab.run(pipeline)
    assert (raised.value.code, raised.value.place) == ("FQ210", pipeline.plan.stage("keep").place)
    assert "FLOWQ_CLAIM_FOLDER" in raised.value.hint

    with pytest.raises(NoClaimFolder):
        async with Publisher(pipeline, redis=lab.dialer.url):
            pass


async def test_a_push_that_is_refused_leaves_no_file(lab: Lab) -> None:
    @stage(claim_above=5000, maxsize=1)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    with pytest.raises(QueueFull):
        await lab.push(pipeline, keep, page(2), wait=False)
    assert len(files(lab)) == 1


# Orphans


async def test_files_are_orphans_only_when_they_are_old_and_nothing_refers_to_them(lab: Lab) -> None:
    @stage(claim_above=5000, keep=10, retry=Retry(attempts=2, base=1000, max=1000))
    async def keep(page: Page) -> None:
        if page.host == "reject":
            raise Reject("no")
        if page.host == "retry":
            raise ValueError("later")

    @stage(claim_above=5000)
    async def other(page: Page) -> None: ...

    pipeline = Pipeline("p", keep, other)
    for host in ("kept", "reject", "retry"):
        await lab.push(pipeline, keep, page(1, host=host))
    async with lab.running(pipeline):
        await eventually(lambda: settled(lab, pipeline))
    await lab.push(pipeline, keep, page(2), delay="1d")
    await lab.push(pipeline, keep, page(3))
    await lab.push(pipeline, other, page(4))
    needed = paths(lab)
    assert len(needed) == 6
    before = Pipeline("p", keep.options(name="earlier"))  # an edge that the code no longer has
    await lab.push(before, "earlier", page(5))
    needed = paths(lab)

    await lab.push(pipeline, keep, page(6))
    (orphan,) = set(paths(lab)) - set(needed)
    (*_, (entry_id, _)) = await entries(lab, "edge:>keep")
    await lab.command(b"XDEL", Keys(lab.namespace, "p").edge(">keep"), entry_id)

    assert await orphans(lab, pipeline) == []
    age(lab)
    assert await orphans(lab, pipeline) == [orphan]


async def settled(lab: Lab, pipeline: Pipeline) -> bool:
    balance = (await lab.balance(pipeline))["keep"]
    return (balance.ok, balance.dead, balance.delayed) == (1, 1, 1)


async def test_in_the_folder_of_another_redis_nothing_is_an_orphan(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    age(lab)
    await lab.command(b"SET", Keys(lab.namespace, "p").claims, b"the folder of this one")
    with pytest.raises(WrongClaimFolder):
        await orphans(lab, pipeline)


async def test_a_released_file_is_no_orphan_before_its_minute_is_over(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(1))
    age(lab)
    assert await orphans(lab, pipeline) == []


async def test_a_message_that_moves_while_orphans_are_looked_for_is_never_taken_for_one(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    @stage(claim_above=5000)
    async def other(page: Page) -> None: ...

    pipeline, keys = Pipeline("p", keep, other), Keys(lab.namespace, "p")
    await lab.push(pipeline, other, *[page(n, size=6000) for n in range(300)])  # so that a look takes some steps
    await lab.push(pipeline, keep, page(1))
    age(lab)
    ((_, fields),) = await entries(lab, "edge:>keep")
    stream, parked = keys.edge(">keep"), keys.parked(">keep")
    moves = 0

    async def move() -> None:
        nonlocal moves
        to_parked = b"redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) redis.call('HSET', KEYS[2], 'm', ARGV[1])"
        to_stream = b"redis.call('DEL', KEYS[2]) redis.call('XADD', KEYS[1], '*', 'h', ARGV[2], 'b', ARGV[3])"
        broker, header, body = lab.broker(pipeline), fields[1], fields[3]
        while True:
            script = to_stream if moves % 2 else to_parked
            (reply,) = await broker.ask([(b"EVAL", script, 2, stream, parked, header + b"\n" + body, header, body)])
            assert not isinstance(reply, Exception), reply
            moves += 1

    moving = asyncio.create_task(move())
    try:
        for _ in range(100):
            assert await orphans(lab, pipeline) == []
    finally:
        moving.cancel()
    assert moves > 100


# Looking


async def test_a_letter_whose_body_cannot_be_read_here_is_shown_without_it_and_not_used_by_mistake(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        raise Reject("no")

    @stage(claim_above=5000)
    async def anything(text: str) -> None: ...

    pipeline = Pipeline("p", keep, anything)
    await lab.run(pipeline, page(1))
    assert lab.claims is not None
    lab.claims.rename(lab.claims.with_name("unmounted"))

    letter = await lab.letter(pipeline, keep)
    assert letter.is_elsewhere
    assert "message" not in letter.as_json()
    assert letter.as_json()["body_in_claim_folder"].endswith(f" {len(page(1).model_dump_json())}")
    repair = DeadLetters(pipeline.plan, lab.broker(pipeline))
    with pytest.raises(BodyElsewhere):
        await repair.put_back(to="anything")
    with pytest.raises(BodyElsewhere):
        await repair.put_back(edit=lambda letter: letter.body)


async def test_an_edited_letter_goes_back_with_a_plain_body_and_its_file_is_left_to_gc(lab: Lab) -> None:
    got: list[int] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        if page.n == 1:
            raise Reject("not this")
        got.append(page.n)

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(1))
    repair = DeadLetters(pipeline.plan, lab.broker(pipeline))
    await repair.put_back(edit=lambda letter: letter.body.replace(b'"n":1', b'"n":2'))
    await lab.run(pipeline)

    assert got == [2]
    age(lab)
    assert await orphans(lab, pipeline) == paths(lab)
