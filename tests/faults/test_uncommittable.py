"""Messages larger than Redis accepts are refused or become dead letters alone, and their neighbours continue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import flowq
from flowq import Pipeline, stage
from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.client.retrying import retry_until_available
from flowq.errors import PayloadTooLarge, RequestCutOff, RequestRefused
from flowq.world import REAL
from tests.redis_server import KINDS, RedisServer
from tests.runtime.lab import Item, Lab, Other, items

LIMIT_BYTES = 1_048_576
LARGE = "x" * (2 * LIMIT_BYTES)
MAX_BYTES = 10 * LIMIT_BYTES


@pytest.fixture(params=["proto-max-bulk-len", "client-query-buffer-limit"])
def limited(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer("bundled", f"--{request.param}", str(LIMIT_BYTES)) as server:
        yield server


@pytest.fixture(params=KINDS)
def old_and_new(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param, "--proto-max-bulk-len", str(LIMIT_BYTES)) as server:
        yield server


async def gives_a_large_output_once(server: RedisServer, namespace: str) -> None:
    stored: list[str] = []

    @stage(concurrency=5)
    async def grow(item: Item) -> Other:
        return Other(text=LARGE if item.n == 2 else f"{item.n}")

    @stage(max_bytes=MAX_BYTES)
    async def store(other: Other) -> None:
        stored.append(other.text)

    pipeline, lab = Pipeline("grows", grow >> store), Lab.at(server.url, namespace)
    summary = await lab.run(pipeline, *items(5))

    assert sorted(stored) == ["0", "1", "3", "4"]
    assert (summary.stages["grow"].ok, summary.stages["grow"].dead) == (4, 1)
    letter = await lab.letter(pipeline, grow)
    assert (letter.reason, letter.body) == ("uncommittable", b'{"n":2}')
    assert "Redis closes the connection on a large request" in letter.error
    await lab.close()


async def test_a_message_giving_more_than_redis_takes_dies_alone(limited: RedisServer, unique_namespace: str) -> None:
    await gives_a_large_output_once(limited, unique_namespace)


async def test_old_and_new_servers_refuse_in_the_same_way(old_and_new: RedisServer, unique_namespace: str) -> None:
    await gives_a_large_output_once(old_and_new, unique_namespace)


@stage(max_bytes=MAX_BYTES, concurrency=5)
async def keep(other: Other) -> None: ...


async def test_a_push_of_more_than_redis_accepts_is_refused_alone(limited: RedisServer, unique_namespace: str) -> None:
    pipeline = Pipeline("pushed", keep)
    async with flowq.Publisher(pipeline, redis=limited.url, namespace=unique_namespace) as publisher:
        with pytest.raises(PayloadTooLarge, match="is more than this Redis accepts"):
            await publisher.push_many(keep, [Other(text="a"), Other(text=LARGE), Other(text="b")])
        await publisher.push(keep, Other(text="c"))

    lab = Lab.at(limited.url, unique_namespace)
    assert (await lab.run(pipeline)).stages["keep"].ok == 3
    await lab.close()


async def test_a_source_emitting_more_than_redis_takes_continues(limited: RedisServer, unique_namespace: str) -> None:
    @flowq.source
    def texts() -> Iterator[Other]:
        yield from (Other(text=LARGE if n in (1, 3) else f"{n}") for n in range(5))

    pipeline, lab = Pipeline("given", texts >> keep), Lab.at(limited.url, unique_namespace)
    summary = await lab.run(pipeline)

    assert (summary.stages["keep"].ok, summary.stages["keep"].dead) == (3, 2)
    letters = await lab.letters(pipeline, keep)
    assert {letter.reason for letter in letters} == {"uncommittable"}
    assert all(letter.body and letter.body.startswith(b'{"text":"xxx') for letter in letters)
    await lab.close()


async def test_a_large_request_is_refused_after_three_attempts_and_a_small_one_is_not(limited: RedisServer) -> None:
    link, attempts = Link(UrlDialer(limited.url)), 0

    async def set_large() -> None:
        nonlocal attempts
        attempts += 1
        await link.call(b"SET", b"key", LARGE.encode(), timeout_seconds=60)

    with pytest.raises(RequestCutOff):
        await set_large()
    with pytest.raises(RequestRefused):
        await retry_until_available(REAL, set_large, what="the test")
    assert attempts == 1 + 3
    assert await link.call(b"SET", b"key", b"x" * (LIMIT_BYTES - 1000), timeout_seconds=60) == b"OK"
    await link.close()
