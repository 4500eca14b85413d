"""What can go wrong with the claim store, and with Redis beside it: nothing is lost, and no needed file deleted."""

from __future__ import annotations

import asyncio
import os
from math import inf
from pathlib import Path

import pytest

from flowq import Pipeline, Publisher, stage
from flowq.broker.claims import ClaimCheck
from flowq.broker.keys import Keys
from flowq.broker.stored_bodies import StoredBodies
from flowq.errors import NoClaimStore, QueueFull, WrongClaimStore
from flowq.inspector import Inspector
from flowq.large_bodies.store import BodyStore
from tests.body_stores import AnyStore, BucketStore, FolderStore, s3_server
from tests.eventually import eventually
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.runtime.lab import Item, Lab
from tests.runtime.large_bodies import Page, entries, page, released


@pytest.fixture
def lab(lab: Lab, body_store: AnyStore) -> Lab:
    lab.claims = body_store.location
    return lab


async def test_a_redis_that_forgets_its_last_settlements_finds_the_bodies_again(body_store: AnyStore) -> None:
    runs: list[int] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        runs.append(page.n)

    pipeline = Pipeline("p", keep)
    with RedisServer("bundled") as server:
        lab = Lab.at(server.url, "t")
        lab.claims = body_store.location
        try:
            await lab.push(pipeline, keep, *map(page, range(5)))
            await lab.command(b"SAVE")
            await lab.run(pipeline)
            await StoredBodies(lab.broker(pipeline)).delete_released()
            assert len(await released(lab)) == 5

            server.kill()
            server.start()  # from the snapshot: the settlements are forgotten, and the releases with them
            assert await released(lab) == []
            await lab.run(pipeline)
        finally:
            await lab.close()

    assert sorted(runs) == sorted([*range(5)] * 2)


async def test_a_file_is_deleted_a_minute_after_its_release_and_its_note_too(lab: Lab, body_store: AnyStore) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1), page(2))
    bodies = [fields[3] for _, fields in await entries(lab, "edge:>keep")]
    key, now = Keys(lab.namespace, "p").released, await lab.command(b"TIME")
    for body, seconds_ago in zip(bodies, (61, 55), strict=True):
        note = b"rubbish\n../../gone 5\n" + body + b"\n"
        await lab.command(b"XADD", key, f"{(int(now[0]) - seconds_ago) * 1000}-0", b"r", note)

    await StoredBodies(lab.broker(pipeline)).delete_released()
    assert body_store.paths() == [bodies[1].split()[0].decode()]
    ((_, fields),) = await entries(lab, "released")
    assert bodies[1] in fields[1]


@pytest.mark.parametrize("leaves", ["something empty", "nothing"])
async def test_messages_wait_for_a_store_that_is_missing_and_run_when_it_is_back(
    leaves: str, lab: Lab, body_store: AnyStore
) -> None:
    got, go = list[Page](), asyncio.Event()

    @stage(claim_above=5000, concurrency=1)
    async def keep(page: Page) -> None:
        await go.wait()
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1), page(2))
    async with lab.running(pipeline) as runner:
        await eventually(lambda: not runner.is_idle)
        body_store.vanish()
        if leaves == "something empty":
            body_store.be_emptied()
        go.set()
        await eventually(lambda: entries_delayed(lab, 1))
        body_store.come_back()
        await eventually(lambda: len(got) == 2)
    assert await lab.letters(pipeline, keep) == []
    assert sorted(found.n for found in got) == [1, 2]


async def test_messages_wait_for_a_server_that_does_not_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline, lab.claims = Pipeline("p", keep), BucketStore().location
    port = free_port()
    with s3_server(port) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        await lab.push(pipeline, keep, page(1))
    async with lab.running(pipeline):
        await eventually(lambda: entries_delayed(lab, 1))
        with s3_server(port):
            await eventually(lambda: got == [page(1)])
    assert await lab.letters(pipeline, keep) == []


async def test_a_worker_with_another_store_ends_before_it_reads_or_writes(lab: Lab, body_store: AnyStore) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    shared, lab.claims = lab.claims, body_store.another()
    with pytest.raises(WrongClaimStore) as raised:
        await lab.run(pipeline)
    assert raised.value.code == "FQ211"
    with pytest.raises(WrongClaimStore):
        await lab.push(pipeline, keep, page(2))
    assert len(body_store.paths()) == 1
    empty = BodyStore(lab.claims, lab.namespace, "p")
    assert (await empty.bodies(before=inf), await empty.name_in_store()) == ({}, "")
    empty.close()

    await ClaimCheck.check_store(lab.broker(pipeline), pipeline.plan, fresh=True)  # as flowq run --fresh does
    lab.claims = shared
    with pytest.raises(WrongClaimStore):
        await lab.run(pipeline)
    await lab.command(b"DEL", Keys(lab.namespace, "p").claims)
    await lab.run(pipeline)
    assert got == [page(1)]


async def test_processes_that_start_at_once_agree_on_one_store(lab: Lab) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    brokers = [lab.broker(pipeline) for _ in range(20)]
    await asyncio.gather(*(ClaimCheck.check_store(broker, pipeline.plan) for broker in brokers))
    (name,) = {broker.claims.name for broker in brokers if broker.claims is not None}
    assert await lab.command(b"GET", Keys(lab.namespace, "p").claims) == name.encode()


async def test_a_redis_that_has_lost_everything_adopts_the_store(lab: Lab) -> None:
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


async def test_outputs_wait_for_a_store_that_is_read_only_and_are_sent_once(lab: Lab, body_store: AnyStore) -> None:
    given, got = list[int](), list[int]()

    @stage
    async def fetch(item: Item) -> Page:
        given.append(item.n)
        return page(item.n)

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page.n)

    pipeline = Pipeline("p", fetch >> keep)
    body_store.vanish()
    async with lab.running(pipeline):
        await lab.push(pipeline, fetch, Item(n=1))
        await eventually(lambda: given == [1])
        assert await lab.command(b"XLEN", Keys(lab.namespace, "p").edge("fetch>keep")) == 0
        body_store.come_back()
        await eventually(lambda: got == [1])
    assert given == [1]


@pytest.mark.parametrize("damage", ["missing", "cut"])
async def test_a_body_that_is_missing_or_truncated_makes_a_dead_letter_that_says_so(
    damage: str, lab: Lab, body_store: AnyStore
) -> None:
    got: list[Page] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        got.append(page)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    (path,) = body_store.paths()
    body = body_store.read(path)
    body_store.delete(path)
    if damage == "cut":
        body_store.write(path, body[:-1])
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, keep)
    told = f"the claim store has no object {path}"
    if damage == "cut":
        told = f"object {path} of the claim store has {len(body) - 1:,} bytes, not {len(body):,}"
    assert (letter.reason, letter.error, letter.is_elsewhere) == ("undecodable", f"BodyLost: {told}", True)

    body_store.write(path, body)
    await Inspector(pipeline.plan, lab.broker(pipeline)).retry_dead_letters()
    await lab.run(pipeline)
    assert got == [page(1)]


@pytest.mark.parametrize(
    "reference", [b"../../../etc/passwd 10", b"/etc/passwd 10", b"ab/" + b"../" * 10 + b" 3", b"", b"ab/" + b"0" * 30]
)
async def test_a_reference_that_leads_out_of_the_store_is_refused(reference: bytes, lab: Lab) -> None:
    @stage
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.command(b"XADD", Keys(lab.namespace, "p").edge(">keep"), b"*", b"h", b"m - - 0 e=file", b"b", reference)
    await lab.command(b"HINCRBY", Keys(lab.namespace, "p").stats, b"in:>keep", 1)
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, keep)
    assert letter.error == "BodyLost: not a reference to a body in the claim store"


async def test_a_way_to_store_a_body_that_this_version_does_not_know_is_left_to_others(lab: Lab) -> None:
    """As a version that knows nothing of the claim store leaves `e=file`."""

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
    with pytest.raises(NoClaimStore) as raised:
        await lab.run(pipeline)
    assert (raised.value.code, raised.value.place) == ("FQ210", pipeline.plan.stage("keep").place)
    assert "FLOWQ_CLAIM_STORE" in raised.value.hint

    with pytest.raises(NoClaimStore):
        async with Publisher(pipeline, redis=lab.dialer.url):
            pass


async def test_a_push_that_is_refused_leaves_no_file(lab: Lab, body_store: AnyStore) -> None:
    @stage(claim_above=5000, maxsize=1)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    with pytest.raises(QueueFull):
        await lab.push(pipeline, keep, page(2), wait=False)
    assert len(body_store.paths()) == 1


async def test_bodies_in_a_folder_are_private_to_their_user_whatever_the_umask(lab: Lab, tmp_path: Path) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    lab.claims = tmp_path / "private"
    lab.claims.mkdir()
    pipeline = Pipeline("p", keep)
    before = os.umask(0)
    try:
        await lab.push(pipeline, keep, *map(page, range(3)))
    finally:
        os.umask(before)

    folders = lab.claims / lab.namespace, lab.claims / lab.namespace / "p"
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]


async def test_a_link_in_the_place_of_a_body_is_not_followed(lab: Lab, tmp_path: Path) -> None:
    seen: list[int] = []

    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        seen.append(page.n)

    store = FolderStore(tmp_path / "linked")
    lab.claims = store.location
    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    (path,) = store.paths()
    body = store.file(path)
    elsewhere = body.rename(tmp_path / "elsewhere")
    body.symlink_to(elsewhere)

    async with lab.running(pipeline):
        await eventually(lambda: entries_delayed(lab, 1))
        assert seen == []
        body.unlink()
        elsewhere.rename(body)
        await eventually(lambda: seen == [1])
