"""A server that refuses writes: accepted messages can still be finished, and nothing is lost or misreported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.runs import Runs
from flowq.broker.workers import Workers
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.dead_letter import CRASHES_BEFORE_BURIAL
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import DeadLetter
from flowq.errors import BrokerUnavailable
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import EDGES, IN, OUT, Settle, Worker, buried, done, output, released, retried
from tests.eventually import eventually


@pytest.fixture
def dialer(real_dialer: UrlDialer) -> Dialer:
    return real_dialer


@pytest.fixture
async def fill_memory(redis: Command) -> AsyncIterator[Command]:
    async def fill() -> None:
        await redis(b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction")
        await redis(b"CONFIG", b"SET", b"maxmemory", b"1")

    yield fill
    await redis(b"CONFIG", b"SET", b"maxmemory", b"0")


@pytest.fixture
async def lose_replicas(redis: Command) -> AsyncIterator[Command]:
    """Have the server refuse every write, for as long as wanted: 1 for refusing, 0 for working again."""

    async def lose(n: int) -> None:
        await redis(b"CONFIG", b"SET", b"min-replicas-to-write", n)

    yield lose
    await redis(b"CONFIG", b"SET", b"min-replicas-to-write", 0)


async def test_everything_read_can_be_settled_when_memory_is_full(worker: Worker, fill_memory: Command) -> None:
    await worker.publish(b"ok", b"retried", b"buried", b"released")
    ok, again, dead, back = await worker.read()
    await fill_memory()

    receipt = await worker.settle(
        done(ok, output(OUT, b"x"), output(OUT, b"later", delay_ms=60_000)),
        retried(again),
        buried(dead),
        released(back),
    )

    assert receipt.won == 4
    balance = await worker.balance()
    assert (balance.ok, balance.delayed, balance.dead, balance.waiting) == (1, 1, 1, 1)
    assert (await worker.snapshot()).edges[OUT].outstanding == 2


@pytest.mark.parametrize("settle", [retried, buried, released])
async def test_each_settlement_passes_when_memory_is_full(settle: Settle, worker: Worker, fill_memory: Command) -> None:
    delivery = await worker.given_one()
    await fill_memory()

    assert (await worker.settle(settle(delivery))).won == 1


async def test_publishing_to_a_full_memory_is_refused_in_flowqs_words_and_changes_nothing(
    worker: Worker, fill_memory: Command, redis: Command, keys: Keys
) -> None:
    await fill_memory()

    with pytest.raises(BrokerUnavailable, match=r"OOM|maxmemory|memory") as refusal:
        await Publishing(worker.broker).publish(IN, [output(IN, b"x", dedup="x")], token="t", dedup=DedupMemory())

    assert refusal.value.hint
    assert await redis(b"EXISTS", keys.published, keys.seen("parse"), keys.stats) == 0


async def test_what_is_due_is_promoted_when_memory_is_full(worker: Worker, fill_memory: Command) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], delay_ms=1)
    await fill_memory()

    async def moved() -> bool:
        return (await Edges(worker.broker).promote([IN]))[0] == 1

    await eventually(moved)


async def test_leases_are_renewed_and_the_dead_are_reclaimed_when_memory_is_full(
    worker: Worker, other: Worker, fill_memory: Command, keys: Keys, redis: Command
) -> None:
    await worker.given_one()
    await redis(b"DEL", keys.lease(worker.name))
    await fill_memory()

    assert await Workers(other.broker).renew(other.name, lease_ms=60_000, heartbeat="2")
    assert (await Workers(other.broker).leases([other.name]))[other.name] == "2"
    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)
    assert taken is not None
    assert len(taken.deliveries) == 1
    await Workers(other.broker).retire(other.name, EDGES, reason="in a hurry")
    assert other.name in await Workers(worker.broker).death_records()


async def test_a_worker_can_sign_on_when_memory_is_full(worker: Worker, fill_memory: Command) -> None:
    await fill_memory()

    await Workers(worker.broker).register("late", {}, lease_ms=60_000, heartbeat="1")

    assert "late" in await Workers(worker.broker).registered()


async def test_crashers_are_buried_when_memory_is_full(worker: Worker, sign_on: SignOn, fill_memory: Command) -> None:
    victims = [await sign_on(f"victim {n}") for n in range(CRASHES_BEFORE_BURIAL)]
    heirs = [*victims[1:], worker]
    await victims[0].given_one(b"poison")
    await fill_memory()

    for victim, heir in zip(victims, heirs, strict=True):
        await Workers(heir.broker).reclaim(
            IN, victim.name, heir.name, limit=10, heartbeat="1", crashed="died of SIGKILL"
        )

    assert (await worker.balance()).dead == 1


async def test_a_failure_after_the_ack_is_buried_when_memory_is_full(worker: Worker, fill_memory: Command) -> None:
    delivery = await worker.given_one()
    await worker.settle(done(delivery))
    await fill_memory()

    await StoredLetters(worker.broker, "parse").bury(delivery, DeadLetter("failed", None, delivery.header))

    assert (await worker.balance()).dead == 1


async def test_a_death_is_recorded_when_memory_is_full(worker: Worker, other: Worker, fill_memory: Command) -> None:
    await fill_memory()

    await Workers(other.broker).record_death(worker.name, "died of SIGKILL")

    assert worker.name in await Workers(other.broker).death_records()


async def test_dead_letters_can_be_put_back_when_memory_is_full(worker: Worker, fill_memory: Command) -> None:
    await worker.settle(buried(await worker.given_one(b"body")))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    await fill_memory()

    assert await StoredLetters(worker.broker, "parse").put_back(IN, [WayBack(letter.entry_id, letter.header, "")]) == 1

    assert (await worker.read_one()).body == b"body"


@pytest.mark.parametrize("broken", [False, True], ids=["in a batch", "one by one"])
async def test_settling_waits_for_a_server_that_refuses_to_write(
    broken: bool, worker: Worker, lose_replicas: Command
) -> None:
    await worker.publish(b"0", b"1")
    deliveries = await worker.read()
    worker.broker.epoch += broken
    await lose_replicas(1)

    settling = asyncio.create_task(worker.settle(*[done(delivery, output(OUT, b"x")) for delivery in deliveries]))
    done_early, _ = await asyncio.wait([settling], timeout=0.1)
    assert not done_early
    await lose_replicas(0)

    assert (await settling).won == 2
    assert (await worker.snapshot()).edges[OUT].waiting == 2


async def test_a_server_that_refuses_to_write_is_not_available_whatever_is_asked(
    worker: Worker, other: Worker, lose_replicas: Command
) -> None:
    await lose_replicas(1)
    broker = worker.broker

    for asking in (
        Workers(broker).renew(worker.name, lease_ms=1000, heartbeat="2"),
        Publishing(broker).publish(IN, [output(IN, b"x")]),
        Workers(broker).reclaim(IN, other.name, worker.name, limit=1, heartbeat="1"),
        Edges(broker).ensure_groups(["new>edge"]),
        Runs(broker).finish_source("seeds", "s"),
        Runs(broker).begin("r", sources=(), signature="", edges=EDGES, stages=()),
    ):
        with pytest.raises(BrokerUnavailable, match="replicas"):
            await asking
