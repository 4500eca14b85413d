"""A recreated consumer group delivers its messages again: each is still settled once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.delivery.message import Delivery
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import IN, OUT, Worker, done, output

N = 10


@pytest.fixture
def dialer(real_dialer: UrlDialer) -> Dialer:
    """Workers of a server in memory share its process: none outlives another's group."""
    return real_dialer


async def made_by_another_worker(redis: Command, stream: str) -> None:
    """It is destroyed, and the next worker that reads makes it."""
    await redis(b"XGROUP", b"DESTROY", stream, b"flowq")


async def made_by_hand(redis: Command, stream: str) -> None:
    await redis(b"XGROUP", b"DESTROY", stream, b"flowq")
    await redis(b"XGROUP", b"CREATE", stream, b"flowq", b"0")


async def set_back(redis: Command, stream: str) -> None:
    await redis(b"XGROUP", b"SETID", stream, b"flowq", b"0")


async def copied_without_it(redis: Command, stream: str) -> None:
    """What was saved of the stream has the entries, and not the group."""
    entries = await redis(b"XRANGE", stream, b"-", b"+")
    await redis(b"DEL", stream)
    for entry_id, fields in entries:
        await redis(b"XADD", stream, entry_id, *fields)


WAYS = [made_by_another_worker, made_by_hand, set_back, copied_without_it]
Way = Callable[[Command, str], Awaitable[None]]


async def settle_all(worker: Worker, deliveries: list[Delivery]) -> int:
    """Settle them in one batch, each with one output; how many this worker has won."""
    settled = [done(delivery, output(OUT, delivery.body)) for delivery in deliveries]
    return (await worker.settle(*settled)).won if settled else 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["before, again", "part of again, before, rest of again"])
async def test_what_a_group_gives_again_while_its_workers_are_busy_is_settled_once(
    order: str, way: Way, worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(N)])
    mine, theirs = await worker.read(N // 2), await other.read(N)
    assert (len(mine), len(theirs)) == (N // 2, N - N // 2)  # both are busy: neither reads

    await way(redis, keys.edge(IN))
    again: list[Delivery] = []
    while len(again) < N:  # the first read may find that there is no group, and make it
        again += await other.read(N)

    part = 0 if order == "before, again" else 3
    won = [await settle_all(other, again[:part]), await settle_all(worker, mine)]
    won += [await settle_all(other, again[part:]), await settle_all(other, theirs)]

    assert sum(won) == N
    outputs = [fields[3] for _, fields in await redis(b"XRANGE", keys.edge(OUT), b"-", b"+")]
    assert sorted(outputs) == sorted(b"%d" % n for n in range(N))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["fresh, busy", "busy, fresh", "part of fresh, busy, rest of fresh"])
async def test_what_a_worker_is_given_that_joins_after_the_group_was_made_again_is_settled_once(
    order: str, way: Way, worker: Worker, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(N)])
    mine = await worker.read(N)

    await way(redis, keys.edge(IN))
    fresh = await sign_on("fresh")  # it has read nothing yet, and sees no ids that go backwards
    again: list[Delivery] = []
    while len(again) < N:
        again += await fresh.read(N)
    first, rest = {"fresh, busy": (N, 0), "busy, fresh": (0, N)}.get(order, (3, N - 3))

    won = [await settle_all(fresh, again[:first]), await settle_all(worker, mine)]
    won.append(await settle_all(fresh, again[N - rest :]))

    assert sum(won) == N
    outputs = [fields[3] for _, fields in await redis(b"XRANGE", keys.edge(OUT), b"-", b"+")]
    assert sorted(outputs) == sorted(b"%d" % n for n in range(N))


async def test_a_worker_whose_group_was_made_again_is_not_registered_any_more(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.given_one()
    await made_by_another_worker(redis, keys.edge(IN))

    await other.read()

    assert not await Workers(worker.broker).renew(worker.name, lease_ms=1000, heartbeat="2")


async def test_the_group_of_a_new_edge_takes_no_workers_name_away(worker: Worker) -> None:
    await Edges(worker.broker).ensure_groups(["new>edge"])

    assert await Workers(worker.broker).renew(worker.name, lease_ms=1000, heartbeat="2")


async def test_workers_of_other_edges_keep_their_names(worker: Worker, keys: Keys, redis: Command) -> None:
    await Workers(worker.broker).register("elsewhere", {"edges": [OUT]}, lease_ms=1000, heartbeat="1")
    await Workers(worker.broker).register("here", {"edges": [IN, OUT]}, lease_ms=1000, heartbeat="1")
    await worker.publish(b"1")
    await made_by_another_worker(redis, keys.edge(IN))

    await Edges(worker.broker).ensure_groups([IN, OUT])

    assert await Workers(worker.broker).renew("elsewhere", lease_ms=1000, heartbeat="2")
    assert not await Workers(worker.broker).renew("here", lease_ms=1000, heartbeat="2")


async def test_a_worker_that_joins_later_and_reads_changes_no_workers_name(worker: Worker, sign_on: SignOn) -> None:
    await worker.publish(*[b"%d" % n for n in range(N)])
    await worker.read(4)

    later = await sign_on("later")
    await later.read(4)
    await worker.read(4)

    assert await Workers(worker.broker).renew(worker.name, lease_ms=1000, heartbeat="2")
    assert await Workers(later.broker).renew(later.name, lease_ms=1000, heartbeat="2")
