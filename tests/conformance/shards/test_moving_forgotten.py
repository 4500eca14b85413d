"""A move is whole although a server forgets a step of it in a failover, or the move has led elsewhere before."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.migration.resharding import Resharding
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import read_layout
from flowq.broker.shards.outbox import packed
from tests.conformance.shards.forgetful import ForgetfulDialer
from tests.conformance.shards.moving_lab import Lab, home_of, page, plan_of

N = 20


@pytest.fixture
async def lab(real_dialer: Dialer, keys: Keys) -> AsyncIterator[Lab]:
    lab = Lab(real_dialer, keys)
    yield lab
    await lab.close()


async def move_and_forget(lab: Lab, dialer: Dialer, n_shards: int, word: bytes) -> None:
    """Move in one process, while the server forgets the first step that has this word."""
    forgetful = ForgetfulDialer(dialer, word, f"{lab.home.keys.namespace}:*")
    broker = with_shards(Broker(forgetful, lab.home.keys), await read_layout(lab.home) or 1)
    await Resharding(broker, plan_of(n_shards)).carry_out()
    await close_shards(broker)
    assert forgetful.has_forgotten


async def remember(lab: Lab, numbers: range, n_shards: int) -> None:
    """Have `fetch` see these, and leave nothing behind."""
    assert [n for n in numbers if await lab.remembers("fetch", n, n_shards)] == []
    await lab.empty(n_shards)


async def test_messages_whose_giving_is_forgotten_are_given_again(lab: Lab, real_dialer: Dialer) -> None:
    await lab.fill(N)
    await lab.home.answer(b"SCRIPT", b"LOAD", scripts.GIVE.text)

    await move_and_forget(lab, real_dialer, 6, scripts.GIVE.digest)

    for shard, name, url, _ in await lab.messages(6):
        assert shard == (home_of(name, page(int(url.rpartition("/")[2])), 6) or 0), (name, url)


async def test_values_that_shard_0_has_taken_over_stay_though_it_forgets_that(lab: Lab, real_dialer: Dialer) -> None:
    await lab.fill(0)
    await lab.move(6)
    await remember(lab, range(N), 6)

    await move_and_forget(lab, real_dialer, 1, b"RENAME")

    assert [n for n in range(N) if not await lab.remembers("fetch", n, 1)] == []


async def test_a_new_shard_is_in_the_run_though_it_forgets_that(lab: Lab, real_dialer: Dialer, keys: Keys) -> None:
    await lab.fill(3)
    await lab.home.answer(b"HSET", keys.run, b"id", b"r1")

    joins = packed((b"HSET", keys.in_shard(2).run))
    await move_and_forget(lab, real_dialer, 4, joins)

    shards = lab.opened(4).shards
    assert [await shard.answer(b"HGET", shard.keys.run, b"id") for shard in shards] == [b"r1"] * 4


async def test_what_a_move_to_one_shard_had_joined_is_forgotten_once_it_has_led_elsewhere(lab: Lab) -> None:
    await lab.fill(0)
    await lab.move(6)
    await remember(lab, range(N), 6)
    n_requests = 100
    while not await lab.home.answer(b"EXISTS", lab.home.keys.seen("fetch") + ":joined"):
        assert not await lab.moved_before_death(1, n_requests)
        n_requests += 10
    await lab.move(8)
    for broker in lab.opened(8).shards:  # as another run does
        await broker.answer(b"DEL", broker.keys.seen("fetch"))
    await remember(lab, range(N, 2 * N), 8)

    await lab.move(1)

    assert [n for n in range(2 * N) if await lab.remembers("fetch", n, 1)] == [*range(N, 2 * N)]
