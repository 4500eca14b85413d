"""A stream with the largest possible last id accepts no entries. Any client may set it: nothing is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import flowq
from flowq.broker.client.connection import Dialer
from flowq.broker.edges import Edges
from flowq.broker.keys import GROUP, Keys
from flowq.broker.migration.moving import Moving, StillServed
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.policy import Keep
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import IN, OUT, Worker, buried, done, output, parse, released, retried

LARGEST = b"18446744073709551615-18446744073709551615"
AT_THE_END = [LARGEST, LARGEST[:-1] + b"4", b"18446744073709551614-18446744073709551615"]

Ended = Callable[[str], Awaitable[int]]
"""Brings a stream to the end of its ids. How many messages that has added."""


@pytest.fixture
def dialer(real_dialer: Dialer) -> Dialer:
    """The server in memory has no other clients, and no XSETID."""
    return real_dialer


@pytest.fixture(params=["set", *AT_THE_END], ids=str)
def ended(request: pytest.FixtureRequest, redis: Command) -> Ended:
    async def end(stream: str) -> int:
        if request.param != "set":
            await redis(b"XADD", stream, request.param, b"e", b">parse", b"b", b"from the end")
            return 1
        added = await redis(b"XADD", stream, b"*", b"b", b"x")
        await redis(b"XSETID", stream, LARGEST)
        await redis(b"XDEL", stream, added)
        return 0

    return end


async def drained(worker: Worker) -> list[bytes]:
    """The bodies of all that comes, each settled; what is delayed is waited for."""
    bodies: list[bytes] = []
    while True:
        await Edges(worker.broker).promote([IN], limit=100)
        if deliveries := await worker.read():
            bodies += [delivery.body for delivery in deliveries]
            await worker.settle(*map(done, deliveries))
        elif not (await worker.balance()).outstanding:
            return sorted(bodies)


async def test_pushes_continue(worker: Worker, keys: Keys, ended: Ended) -> None:
    n = await ended(keys.edge(IN))

    for body in (b"1", b"2", b"3"):
        await worker.publish(body)

    assert await drained(worker) == [b"1", b"2", b"3", *[b"from the end"] * n]
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (3 + n, 3 + n)


async def test_outputs_are_passed_on(worker: Worker, keys: Keys, redis: Command, ended: Ended) -> None:
    deliveries = [await worker.given_one(), await worker.given_one()]
    n = await ended(keys.edge(OUT))

    await worker.settle(*(done(delivery, output(OUT, b"1"), output(OUT, b"2")) for delivery in deliveries))

    assert await redis(b"XLEN", keys.edge(OUT)) + await redis(b"ZCARD", keys.delayed(OUT)) == 4 + n


async def test_what_a_worker_has_is_settled_under_its_id_and_the_rest_waits_for_it(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), LARGEST, b"b", b"from the end", b"kind", b"odd")
    held = await worker.read_one()

    await worker.publish(b"1")
    await worker.publish(b"2")
    assert await redis(b"ZCARD", keys.delayed(IN)) == 2
    await worker.settle(released(held))

    assert await drained(worker) == [b"1", b"2", b"from the end"]
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (3, 3)


@pytest.mark.parametrize("settle", [released, retried, buried])
async def test_what_is_released_tried_again_or_buried_is_kept(
    settle: Callable[..., object], worker: Worker, keys: Keys, redis: Command, ended: Ended
) -> None:
    delivery = await worker.given_one()
    n = await ended(keys.dead("parse") if settle is buried else keys.edge(IN))

    await worker.settle(settle(delivery))  # type: ignore[arg-type]

    if settle is buried:
        assert len(await StoredLetters(worker.broker, "parse").read()) == 1 + n
    else:
        outstanding = await redis(b"XLEN", keys.edge(IN)) + await redis(b"ZCARD", keys.delayed(IN))
        assert outstanding == 1 + n


async def test_delayed_messages_are_promoted(worker: Worker, keys: Keys, redis: Command, ended: Ended) -> None:
    await worker.settle(retried(await worker.given_one(), 1))
    n = await ended(keys.edge(IN))

    assert len(await drained(worker)) == 1 + n


async def test_dead_letters_are_put_back_and_moved(worker: Worker, keys: Keys, redis: Command, ended: Ended) -> None:
    await worker.settle(buried(await worker.given_one()))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    n = await ended(keys.edge(IN))
    assert await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(letter.entry_id, letter.header, "")]) == 1
    assert await redis(b"XLEN", keys.edge(IN)) == 1 + n

    await worker.settle(*map(buried, await worker.read()))
    n += await ended(keys.dead("tidy"))
    await Moving(worker.broker).stage("parse", "tidy", {IN: ">tidy"})
    assert len(await StoredLetters(worker.broker, "tidy").read()) == 1 + n


async def test_an_edge_is_moved_and_nothing_lost(worker: Worker, keys: Keys, redis: Command, ended: Ended) -> None:
    await worker.publish(b"1")
    n = await ended(keys.edge(">tidy"))
    await redis(b"DEL", keys.lease(worker.name))

    assert await Moving(worker.broker).edge(IN, ">tidy") == 1

    assert await redis(b"XLEN", keys.edge(">tidy")) == 1 + n


async def test_an_edge_is_not_moved_to_one_whose_end_is_worked_on(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"1")
    await redis(b"XADD", keys.edge(">tidy"), LARGEST, b"b", b"x")
    await redis(b"XGROUP", b"CREATE", keys.edge(">tidy"), GROUP, b"0")
    await redis(b"XREADGROUP", b"GROUP", GROUP, b"new", b"STREAMS", keys.edge(">tidy"), b">")
    await redis(b"DEL", keys.lease(worker.name))

    with pytest.raises(StillServed):
        await Moving(worker.broker).edge(IN, ">tidy")

    assert await redis(b"XLEN", keys.edge(IN)) == 1


async def test_what_is_kept_is_kept_and_runs_again(worker: Worker, keys: Keys, redis: Command, ended: Ended) -> None:
    keeping = Settling(worker.broker, {}, {"parse": Keep(10)})
    await keeping.connect()
    await worker.settle(done(await worker.given_one()), by=keeping)
    delivery = await worker.given_one()
    n = await ended(keys.kept("parse"))
    await worker.settle(done(delivery), by=keeping)
    await keeping.close()
    assert await redis(b"XLEN", keys.kept("parse")) == 2 + n

    n_waiting = await ended(keys.edge(IN))
    n_again = await Kept(flowq.Pipeline("lab", parse.options(keep=10)).plan, worker.broker, "parse").replay()
    assert n_again >= 1
    assert await redis(b"XLEN", keys.edge(IN)) == n_waiting + n_again
    assert await redis(b"XLEN", keys.kept("parse")) == 2 + n - n_again


async def test_what_is_reclaimed_is_buried(
    worker: Worker, sign_on: SignOn, keys: Keys, redis: Command, ended: Ended
) -> None:
    delivery = await worker.given_one()
    n = await ended(keys.dead("parse"))
    await redis(b"HSET", keys.suspects, f"{IN}|{delivery.entry_id.decode()}", 99)
    other = await sign_on("other")
    await redis(b"DEL", keys.lease(worker.name))

    await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=9, crashed="killed")

    assert len(await StoredLetters(other.broker, "parse").read()) == 1 + n
