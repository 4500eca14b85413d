"""Bodies to which no message refers are found, and no others; letters with large bodies can be fixed."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Pipeline, Reject, Retry, stage
from flowq.broker.keys import Keys
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.errors import BodyElsewhere, WrongClaimStore
from tests.body_stores import AnyStore
from tests.eventually import eventually
from tests.runtime.lab import Lab
from tests.runtime.large_bodies import (
    Page,
    entries,
    orphans,
    page,
)


@pytest.fixture
def lab(lab: Lab, body_store: AnyStore) -> Lab:
    lab.claims = body_store.location
    return lab


async def test_files_are_orphans_only_when_they_are_old_and_nothing_refers_to_them(
    lab: Lab, body_store: AnyStore
) -> None:
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
    needed = body_store.paths()
    assert len(needed) == 6
    before = Pipeline("p", keep.options(name="earlier"))  # an edge that the code no longer has
    await lab.push(before, "earlier", page(5))
    needed = body_store.paths()

    await lab.push(pipeline, keep, page(6))
    (orphan,) = set(body_store.paths()) - set(needed)
    (*_, (entry_id, _)) = await entries(lab, "edge:>keep")
    await lab.command(b"XDEL", Keys(lab.namespace, "p").edge(">keep"), entry_id)

    assert await orphans(lab, pipeline) == []
    body_store.age()
    assert await orphans(lab, pipeline) == [orphan]


async def settled(lab: Lab, pipeline: Pipeline) -> bool:
    balance = (await lab.balance(pipeline))["keep"]
    return (balance.ok, balance.dead, balance.delayed) == (1, 1, 1)


async def test_in_the_folder_of_another_redis_nothing_is_an_orphan(lab: Lab, body_store: AnyStore) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, page(1))
    body_store.age()
    await lab.command(b"SET", Keys(lab.namespace, "p").claims, b"the folder of this one")
    with pytest.raises(WrongClaimStore):
        await orphans(lab, pipeline)


async def test_a_released_file_is_no_orphan_before_its_minute_is_over(lab: Lab, body_store: AnyStore) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    pipeline = Pipeline("p", keep)
    await lab.run(pipeline, page(1))
    body_store.age()
    assert await orphans(lab, pipeline) == []


async def test_a_message_that_moves_while_orphans_are_looked_for_is_never_taken_for_one(
    lab: Lab, body_store: AnyStore
) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None: ...

    @stage(claim_above=5000)
    async def other(page: Page) -> None: ...

    pipeline, keys = Pipeline("p", keep, other), Keys(lab.namespace, "p")
    await lab.push(pipeline, other, *[page(n, size=6000) for n in range(300)])  # so that a look takes some steps
    await lab.push(pipeline, keep, page(1))
    body_store.age()
    ((_, fields),) = await entries(lab, "edge:>keep")
    stream, parked = keys.edge(">keep"), keys.delayed_bodies(">keep")
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


async def test_a_letter_whose_body_cannot_be_read_is_shown_without_and_not_used(lab: Lab, body_store: AnyStore) -> None:
    @stage(claim_above=5000)
    async def keep(page: Page) -> None:
        raise Reject("no")

    @stage(claim_above=5000)
    async def anything(text: str) -> None: ...

    pipeline = Pipeline("p", keep, anything)
    await lab.run(pipeline, page(1))
    body_store.vanish()

    letter = await lab.letter(pipeline, keep)
    assert letter.is_elsewhere
    assert "message" not in letter.as_json()
    assert letter.as_json()["body_in_claim_store"].endswith(f" {len(page(1).model_dump_json())}")
    repair = DeadLetters(pipeline.plan, lab.broker(pipeline))
    with pytest.raises(BodyElsewhere):
        await repair.put_back(to="anything")
    with pytest.raises(BodyElsewhere):
        await repair.put_back(edit=lambda letter: letter.body)


async def test_an_edited_letter_goes_back_with_a_plain_body_its_file_to_gc(lab: Lab, body_store: AnyStore) -> None:
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
    body_store.age()
    assert await orphans(lab, pipeline) == body_store.paths()
