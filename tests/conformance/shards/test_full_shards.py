"""Shards whose memory is full or whose streams are at the end of their ids: nothing is lost or happens by half."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.publishing import Parcel
from flowq.broker.shards.outbox import Entry
from flowq.delivery.policy import DedupMemory
from flowq.errors import BrokerUnavailable
from tests.conformance.conftest import Command
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import THERE, Shard, apply, bodies_in, crossing
from tests.conformance.worker import IN, OUT, done, output, retried

LARGEST = b"18446744073709551615-18446744073709551615"


@pytest.fixture
def dialer(real_dialer: UrlDialer) -> Dialer:
    """The server in memory has no limit."""
    return real_dialer


@pytest.fixture
async def fill_memory(redis: Command) -> AsyncIterator[Command]:
    async def fill() -> None:
        await redis(b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction")
        await redis(b"CONFIG", b"SET", b"maxmemory", b"1")

    yield fill
    await redis(b"CONFIG", b"SET", b"maxmemory", b"0")


async def put(here: Shard, *bodies: bytes, dedup: str = "") -> list[Entry]:
    """Have shard 0 put these into its outbox, each in an entry."""
    for body in bodies:
        await here.settle(done(await here.worker.given_one(), crossing(body, dedup=dedup)))
    return here.sent


async def test_what_was_read_can_be_settled_though_it_emits_for_other_shards(here: Shard, fill_memory: Command) -> None:
    await here.worker.publish(b"1", b"2")
    first, second = await here.worker.read()
    await fill_memory()

    receipt = await here.settle(done(first, crossing(b"x"), output(OUT, b"y")), retried(second))

    assert receipt.won == 2
    assert await here.outbox(1) == here.sent
    assert [bodies_in(entry) for entry in here.sent] == [[b"x"]]


@pytest.mark.parametrize("token", ["", "once"])
async def test_publishing_for_several_shards_is_refused_as_a_whole(
    token: str, here: Shard, keys: Keys, redis: Command, fill_memory: Command
) -> None:
    await put(here, b"0")
    before = await here.counters()
    await fill_memory()

    for parcels in (
        [Parcel(THERE, [crossing(b"1")])],
        [Parcel(THERE, [crossing(b"1")]), Parcel(IN, [output(IN, b"2")])],
    ):
        with pytest.raises(BrokerUnavailable, match=r"OOM|memory"):
            await here.publishing.publish_together(parcels, token=token)

    assert (await here.counters(), len(await here.outbox(1)), await here.bodies(IN)) == (before, 1, [])
    assert not token or await redis(b"ZSCORE", keys.published, token) is None


@pytest.mark.parametrize("memory", [None, DedupMemory(), DedupMemory(60_000)], ids=["none", "packed", "with a ttl"])
@pytest.mark.parametrize("is_duplicate", [False, True], ids=["new", "duplicate"])
async def test_a_full_shard_applies_nothing_and_all_of_it_later(
    memory: DedupMemory | None, is_duplicate: bool, make_shards: MakeShards, redis: Command, fill_memory: Command
) -> None:
    here, there = await make_shards(memory={OUT: memory} if memory else {})
    sent = await put(here, b"1", dedup="a")
    if is_duplicate:
        await apply(there, sent)
        sent = (await put(here, b"2", dedup="a"))[1:]
    before = await there.counters(), await there.fields(there.keys.inbox)
    await fill_memory()

    with pytest.raises(BrokerUnavailable, match=r"OOM|memory"):
        await apply(there, sent)

    assert (await there.counters(), await there.fields(there.keys.inbox)) == before
    await redis(b"CONFIG", b"SET", b"maxmemory", b"0")
    assert (await apply(there, sent))[:3] == [1, sent[0].id, 1]


@pytest.mark.parametrize("last", ["set", LARGEST, LARGEST[:-1] + b"4", b"18446744073709551614-1"], ids=str)
@pytest.mark.parametrize("n_before", [0, 2])
async def test_an_outbox_at_the_end_of_its_ids_keeps_what_was_put_and_takes_more(
    last: str | bytes, n_before: int, here: Shard, keys: Keys, redis: Command
) -> None:
    await put(here, *[b"%d" % n for n in range(n_before)])
    outbox = keys.outbox_of("1")
    if isinstance(last, bytes):
        await redis(b"XADD", outbox, last, b"x", b"y")
    else:
        added = await redis(b"XADD", outbox, b"*" if not n_before else b"9000000000000000-0", b"x", b"y")
        await redis(b"XSETID", outbox, LARGEST)
        await redis(b"XDEL", outbox, added)

    await put(here, b"new")

    assert await here.outbox(1) == here.sent
    assert len(here.sent) == n_before + 1
    assert here.sent[-1].before == (here.sent[-2].id if n_before else b"0-0")


@pytest.mark.parametrize("is_running", [False, True])
async def test_what_a_stream_at_the_end_of_its_ids_does_not_accept_waits_elsewhere(
    is_running: bool, make_shards: MakeShards, redis: Command
) -> None:
    here, there = await make_shards()
    sent = await put(here, b"1", b"2")
    await redis(b"XADD", there.keys.edge(OUT), LARGEST, b"b", b"far")
    if is_running:  # which keeps the stream from being made again
        await there.worker.read()

    assert (await apply(there, sent))[:3] == [1, sent[1].id, 2]

    found = [value.partition(b"\n")[2] for value in (await there.fields(there.keys.delayed_bodies(OUT))).values()]
    assert sorted(found) == ([b"1", b"2"] if is_running else [])
    assert sorted(await there.bodies()) == ([b"far"] if is_running else [b"1", b"2", b"far"])
