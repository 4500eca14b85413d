"""Settling removes the entries of its own deliveries and no others, in however few commands it does so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import GROUP, Keys
from flowq.broker.settling import Settled, Settling
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Keep
from flowq.delivery.settlement import Succeeded
from tests.conformance.conftest import Command
from tests.conformance.streams import bodies, reclaim
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, filtered, output, released, retried
from tests.conftest import Servers
from tests.redis_server import KINDS, Kind

N = 60

Change = Callable[[Command, str, Sequence[bytes]], Awaitable[object]]
"""What another program does to entries of a stream while a worker has them."""


async def ids_in(redis: Command, stream: str) -> list[bytes]:
    return [entry_id for entry_id, _ in await redis(b"XRANGE", stream, b"-", b"+")]


async def given_many(worker: Worker, n: int = N) -> list[Delivery]:
    await worker.publish(*[b"%d" % number for number in range(n)])
    return await worker.read(n)


# Entries that were changed by hand


async def acked(redis: Command, stream: str, ids: Sequence[bytes]) -> None:
    assert await redis(b"XACK", stream, GROUP, *ids) == len(ids)


async def acked_while_others_were_deleted(redis: Command, stream: str, ids: Sequence[bytes]) -> None:
    """Stream and group have lost the same number of entries, so the counts do not show it."""
    await acked(redis, stream, ids[::2])
    assert await redis(b"XDEL", stream, *ids[1::2]) == len(ids[1::2])


async def claimed_by_hand(redis: Command, stream: str, ids: Sequence[bytes]) -> None:
    await redis(b"XCLAIM", stream, GROUP, b"somebody", 0, *ids, b"JUSTID")


@pytest.mark.parametrize("change", [acked, acked_while_others_were_deleted, claimed_by_hand])
@pytest.mark.parametrize("places", [[0, 1], [N // 2, N // 2 + 1], [N - 2, N - 1], range(0, N, 3)], ids=str)
async def test_what_was_changed_by_hand_stays_wherever_it_is(
    change: Change, places: Sequence[int], worker: Worker, keys: Keys, redis: Command
) -> None:
    deliveries, stream = await given_many(worker), keys.edge(IN)
    ids = [delivery.entry_id for delivery in deliveries]
    changed = [ids[place] for place in places]
    await change(redis, stream, changed)
    before = await ids_in(redis, stream)

    await worker.settle(*[done(delivery) for delivery in deliveries if delivery.entry_id not in changed])

    assert await ids_in(redis, stream) == [entry_id for entry_id in before if entry_id in changed]


async def test_what_a_group_was_set_past_stays_and_counts_as_left(worker: Worker, keys: Keys, redis: Command) -> None:
    stream = keys.edge(IN)
    first = await given_many(worker)
    await worker.publish(*[b"skipped"] * 3)
    await redis(b"XGROUP", b"SETID", stream, GROUP, b"$")
    second = await given_many(worker)

    await worker.settle(*map(done, [*first, *second]))

    assert await bodies(redis, stream) == [b"skipped"] * 3
    assert (await worker.balance()).outstanding == 3


async def test_what_a_group_that_was_set_back_has_not_delivered_again_stays(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    stream, deliveries = keys.edge(IN), await given_many(worker)
    await redis(b"XGROUP", b"SETID", stream, GROUP, b"0")
    again = await other.read(N // 2)

    await other.settle(*map(done, again))

    assert await ids_in(redis, stream) == [delivery.entry_id for delivery in deliveries[N // 2 :]]


async def test_what_another_group_has_not_read_is_removed_as_before(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XGROUP", b"CREATE", keys.edge(IN), b"foreign", b"0")

    await worker.settle(*map(done, await given_many(worker)))

    assert await redis(b"XLEN", keys.edge(IN)) == 0


@pytest.mark.parametrize("n_deleted", [1, N // 2, N])
async def test_entries_that_were_deleted_by_hand_while_they_ran_change_nothing_for_the_others(
    n_deleted: int, worker: Worker, keys: Keys, redis: Command
) -> None:
    deliveries = await given_many(worker)
    await redis(b"XDEL", keys.edge(IN), *[delivery.entry_id for delivery in deliveries[-n_deleted:]])
    await worker.publish(b"new")

    assert (await worker.settle(*map(done, deliveries))).won == N

    assert await bodies(redis, keys.edge(IN)) == [b"new"]


# Messages in the hands of others


@pytest.mark.parametrize("settle", [retried, buried, released])
async def test_failures_among_successes_end_with_them(settle: Settle, worker: Worker) -> None:
    deliveries = await given_many(worker)
    settled = [(settle if n % 7 == 0 else done)(delivery) for n, delivery in enumerate(deliveries)]

    assert (await worker.settle(*settled)).won == N

    balance, n_failed = await worker.balance(), len(range(0, N, 7))
    assert (balance.ok, balance.running, balance.outstanding + balance.dead) == (N - n_failed, 0, n_failed)


async def test_two_workers_that_settle_in_turns_leave_each_other_theirs(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(200)])
    mine, theirs = list[Delivery](), list[Delivery]()
    for _ in range(10):
        mine += await worker.read(10)
        theirs += await other.read(10)

    await worker.settle(*map(done, mine))
    assert await ids_in(redis, keys.edge(IN)) == [delivery.entry_id for delivery in theirs]
    await other.settle(*map(done, theirs))

    assert (await worker.balance()).ok == 200


async def test_what_was_reclaimed_stays_until_its_new_owner_settles_it(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    deliveries, fresh = await given_many(worker), list[Delivery]()
    await worker.publish(*[b"fresh"] * N)
    fresh = await other.read(N)
    claimed = await reclaim(other, worker, keys, redis, limit=20)

    await other.settle(*map(done, fresh))
    assert await ids_in(redis, keys.edge(IN)) == [delivery.entry_id for delivery in deliveries]
    await other.settle(*map(done, claimed))

    assert await ids_in(redis, keys.edge(IN)) == [delivery.entry_id for delivery in deliveries[20:]]


async def test_a_lost_group_takes_no_undelivered_message_along(worker: Worker, keys: Keys, redis: Command) -> None:
    """Entries are not pending any more and will be delivered again; only the first of the batch is this worker's."""
    deliveries, stream = await given_many(worker), keys.edge(IN)
    await redis(b"XGROUP", b"DESTROY", stream, GROUP)
    await redis(b"XGROUP", b"CREATE", stream, GROUP, b"0")
    again = await worker.read(1)

    await worker.settle(done(again[0]), *map(done, deliveries[N // 2 :]))

    assert set(await ids_in(redis, stream)) >= {delivery.entry_id for delivery in deliveries[1 : N // 2]}


# What is kept, and the order


async def test_all_that_is_trimmed_was_kept_before(worker: Worker, keys: Keys, redis: Command) -> None:
    keeping = Settling(worker.broker, {}, {"parse": Keep(1000)})
    await keeping.connect()

    await worker.settle(*map(done, await given_many(worker)), by=keeping)

    assert await bodies(redis, keys.kept("parse")) == [b"%d" % n for n in range(N)]
    assert await redis(b"XLEN", keys.edge(IN)) == 0
    await keeping.close()


async def test_filtered_ones_and_batches_of_messages_are_removed_with_the_others(worker: Worker) -> None:
    deliveries = await given_many(worker)
    unit = (deliveries[20:40], Succeeded([output(OUT, b"sum")]))

    await worker.settle(*map(done, deliveries[:20]), unit, *map(filtered, deliveries[40:]))

    balance = await worker.balance()
    assert (balance.ok, balance.filtered, balance.outstanding) == (40, 20, 0)


@pytest.mark.parametrize(
    ("ids", "running"),
    [
        ([b"1764443000000-%d" % seq for seq in range(100, 160)], 30),
        ([*[b"7-%d" % seq for seq in (*range(10, 40), 99)], *[b"8-%d" % seq for seq in range(40, 70)]], 30),
        ([b"7-%d" % (2**53 + seq) for seq in range(2, 66)], 30),
    ],
    ids=["one millisecond", "sequence numbers go on in the next", "Lua cannot tell odd from even"],
)
@pytest.mark.parametrize("to_front", [False, True])
async def test_numbers_between_which_nothing_seems_to_be_missing_hide_no_other_entry(
    to_front: bool, ids: list[bytes], running: int, worker: Worker, keys: Keys, redis: Command
) -> None:
    """The first and last id are as far apart as their places in the batch, but one between them is missing."""
    stream = keys.edge(IN)
    for entry_id in ids:
        await redis(b"XADD", stream, entry_id, b"b", b"1")
    deliveries = await worker.read(len(ids))
    del deliveries[running]
    if to_front:
        deliveries.insert(5, deliveries.pop())

    await worker.settle(*map(done, deliveries))

    assert await ids_in(redis, stream) == [ids[running]]


@pytest.mark.parametrize("n_digits", [1, 2])
async def test_ids_whose_texts_sort_otherwise_than_their_numbers_are_all_removed(
    n_digits: int, worker: Worker, keys: Keys, redis: Command
) -> None:
    stream, first = keys.edge(IN), b"9-%d" % 10**n_digits
    for entry_id in (first, *[b"10-%d" % seq for seq in range(10, 60)]):
        await redis(b"XADD", stream, entry_id, b"b", b"1")
    deliveries = await worker.read(N)
    await redis(b"XDEL", stream, first)

    await worker.settle(*map(done, deliveries))

    assert await ids_in(redis, stream) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_batch_is_trimmed_without_searching_for_each_entry(kind: Kind, redis_server: Servers) -> None:
    url = redis_server(kind).url

    async def settle_many() -> None:
        worker = await Worker.sign_on(UrlDialer(url), Keys(f"t{uuid4().hex[:12]}", "lab"), "one")
        await worker.settle(*map(done, await given_many(worker, 1000)))
        await worker.close()

    with Redis.from_url(url) as client:
        client.config_resetstat()
        asyncio.run(settle_many())
        assert client.info("commandstats")["cmdstat_xtrim"]["calls"] == 1


# Any history

Fate = Literal["mine", "running", "another's", "acked by hand", "deleted", "retried", "twice"]
FATES: tuple[Fate, ...] = ("running", "another's", "acked by hand", "deleted", "retried", "twice")
STAY = ("running", "another's", "acked by hand")


@dataclass(frozen=True)
class Entry:
    entry_id: bytes
    fate: Fate


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Long runs of successive ids, some of them with a gap, of one digit more, or in the next millisecond."""
    ms, found = draw(st.sampled_from([8, 97, 1764443000000])), list[Entry]()
    for start, length in draw(
        st.lists(st.tuples(st.sampled_from([0, 5, 95, 10**15 - 9]), st.integers(1, 40)), min_size=1, max_size=4)
    ):
        ms, seq = ms + draw(st.integers(1, 3)), start
        for _ in range(length):
            found.append(Entry(b"%d-%d" % (ms, seq), "mine"))
            seq += 1
        if draw(st.booleans()):
            found[-1] = Entry(b"%d-%d" % (ms, seq + 1), "mine")
    for place, fate in draw(st.lists(st.tuples(st.integers(0, len(found) - 1), st.sampled_from(FATES)), max_size=5)):
        found[place] = Entry(found[place].entry_id, fate)
    return found


def in_order(settled: list[Settled], order: str, random: Random) -> list[Settled]:
    match order:
        case "shuffled":
            random.shuffle(settled)
        case "reversed":
            settled.reverse()
        case "nearly in order":
            settled = [settled[at] for at in sorted(range(len(settled)), key=lambda at: at + random.random() * 6)]
        case _:
            pass
    return settled


async def play(history: list[Entry], n_unread: int, order: str, random: Random, dialer: Dialer) -> None:
    keys = Keys(f"t{uuid4().hex[:12]}", "lab")
    worker, stream = await Worker.sign_on(dialer, keys, "one"), keys.edge(IN)
    try:
        await worker.broker.ask([(b"XADD", stream, entry.entry_id, b"b", b"1") for entry in history])
        fates = {entry.entry_id: entry.fate for entry in history}
        deliveries = await worker.read(max(1, len(history) - n_unread))
        read = {delivery.entry_id for delivery in deliveries}
        for entry_id in read:
            match fates[entry_id]:
                case "another's":
                    await worker.broker.ask([(b"XCLAIM", stream, GROUP, b"another", 0, entry_id)])
                case "acked by hand":
                    await worker.broker.ask([(b"XACK", stream, GROUP, entry_id)])
                case "deleted":
                    await worker.broker.ask([(b"XDEL", stream, entry_id)])
                case _:
                    pass
        settled = list[Settled]()
        for delivery in deliveries:
            fate = fates[delivery.entry_id]
            if fate not in STAY:
                settled += [(retried if fate == "retried" else done)(delivery)] * (2 if fate == "twice" else 1)

        await worker.settle(*in_order(settled, order, random))

        left = {entry.entry_id for entry in history if entry.entry_id not in read or entry.fate in STAY}
        (found,) = await worker.broker.ask([(b"XRANGE", stream, b"-", b"+")])
        assert {entry_id for entry_id, _ in found} == left
    finally:
        await worker.close()


@pytest.mark.parametrize("kind", [None, *KINDS], ids=lambda kind: kind or "memory")
@given(
    history=entries(),
    n_unread=st.integers(0, 5),
    order=st.sampled_from(["as read", "nearly in order", "reversed", "shuffled"]),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=100)
def test_whatever_happened_before_only_settled_entries_are_removed(
    history: list[Entry], n_unread: int, order: str, random: Random, kind: Kind | None, redis_server: Servers
) -> None:
    dialer = MemoryDialer() if kind is None else UrlDialer(redis_server(kind).url)
    asyncio.run(play(history, n_unread, order, random, dialer))
