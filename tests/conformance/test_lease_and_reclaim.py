"""Leases and reclaims: nothing from live workers, nothing from oneself, everything from dead ones."""

from __future__ import annotations

import pytest

from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.dead_letter import CRASHES_BEFORE_BURIAL
from tests.conformance.conftest import Command, SignOn, server_ms
from tests.conformance.worker import EDGES, IN, OUT, Worker, done


async def names_on(worker: Worker, edge: str = IN) -> set[str]:
    return (await Workers(worker.broker).consumers_of([edge]))[edge]


# The lease


async def test_a_lease_lives_as_long_as_configured(worker: Worker, keys: Keys, redis: Command) -> None:
    async def lease_ends_ms() -> int:
        return int(await redis(b"PEXPIRETIME", keys.lease("mayfly")))

    before_ms = await server_ms(redis)
    await Workers(worker.broker).register("mayfly", {}, lease_ms=30_000, heartbeat="1")
    ends_ms = await lease_ends_ms()
    assert before_ms + 30_000 <= ends_ms <= await server_ms(redis) + 30_000

    before_ms = await server_ms(redis)
    assert await Workers(worker.broker).renew("mayfly", lease_ms=60_000, heartbeat="2")
    ends_ms = await lease_ends_ms()
    assert before_ms + 60_000 <= ends_ms <= await server_ms(redis) + 60_000
    assert await Workers(worker.broker).leases(["mayfly", "nobody"]) == {"mayfly": "2", "nobody": None}


async def test_an_expired_lease_is_restored_by_the_next_renewal(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"DEL", keys.lease(worker.name))

    assert await Workers(worker.broker).renew(worker.name, lease_ms=1000, heartbeat="2")

    assert await redis(b"GET", keys.lease(worker.name)) == b"2"


async def test_what_a_worker_tells_of_itself_is_found_under_its_name(worker: Worker) -> None:
    await Workers(worker.broker).register("told", {"pid": 7, "stages": ["parse"]}, lease_ms=1000, heartbeat="1")

    registered = await Workers(worker.broker).registered()

    assert registered["told"] == {"worker": "told", "pid": 7, "stages": ["parse"]}


# The reclaim


async def test_the_living_are_not_reclaimed(worker: Worker, other: Worker) -> None:
    await worker.given_one()

    assert await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10) is None
    assert worker.name in await Workers(worker.broker).registered()
    assert len(await worker.reader.own_pending(worker.name)) == 1


async def test_a_lease_that_changed_since_the_last_look_protects(worker: Worker, other: Worker) -> None:
    await worker.given_one()
    await Workers(worker.broker).renew(worker.name, lease_ms=60_000, heartbeat="2")

    assert await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10, heartbeat="1") is None


async def test_a_lease_that_has_not_changed_since_the_last_look_does_not(worker: Worker, other: Worker) -> None:
    await worker.given_one(b"left")

    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10, heartbeat="1")

    assert taken is not None
    assert [delivery.body for delivery in taken.deliveries] == [b"left"]


@pytest.mark.parametrize("heartbeat", [None, "1"])
async def test_a_worker_does_not_reclaim_from_itself(heartbeat: str | None, worker: Worker) -> None:
    await worker.given_one()

    assert await Workers(worker.broker).reclaim(IN, worker.name, worker.name, limit=10, heartbeat=heartbeat) is None
    assert worker.name in await Workers(worker.broker).registered()


async def test_messages_of_a_dead_worker_belong_to_the_worker_that_reclaims_them(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"0", b"1", b"2")
    left = await worker.read(2)
    await redis(b"DEL", keys.lease(worker.name))

    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)

    assert taken is not None
    assert not taken.finished
    assert [delivery.message_id for delivery in taken.deliveries] == [delivery.message_id for delivery in left]
    assert {delivery.worker for delivery in taken.deliveries} == {other.name}
    assert [delivery.header.attempt for delivery in taken.deliveries] == [1, 1]
    balance = await other.balance()
    assert (balance.waiting, balance.running) == (1, 2)
    assert (await other.settle(*map(done, taken.deliveries))).won == 2


async def test_claiming_takes_the_registration_away(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    await worker.given_one()
    await redis(b"DEL", keys.lease(worker.name))

    await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)

    assert set(await Workers(other.broker).registered()) == {other.name}
    assert not await Workers(worker.broker).renew(worker.name, lease_ms=1000, heartbeat="2")


async def test_a_name_with_nothing_left_disappears(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"0", b"1", b"2")
    await worker.read()
    await redis(b"DEL", keys.lease(worker.name))

    taken = [await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=2) for _ in range(3)]

    assert [len(part.deliveries) for part in taken if part] == [2, 1, 0]
    assert [part.finished for part in taken if part] == [False, False, True]
    assert await names_on(other) == {other.name}


async def test_unregistered_workers_reclaim_nothing(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    await worker.given_one()
    await redis(b"DEL", keys.lease(worker.name))
    await redis(b"HDEL", keys.workers, other.name)

    assert await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10) is None
    assert len(await worker.reader.own_pending(worker.name)) == 1


async def test_two_that_reclaim_at_once_share_what_was_left(
    worker: Worker, other: Worker, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    third = await sign_on("third")
    await worker.publish(*[b"%d" % n for n in range(10)])
    await worker.read()
    await redis(b"DEL", keys.lease(worker.name))

    first = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=4)
    second = await Workers(third.broker).reclaim(IN, worker.name, third.name, limit=100)

    assert first is not None
    assert second is not None
    bodies = [delivery.body for delivery in (*first.deliveries, *second.deliveries)]
    assert sorted(bodies) == [b"%d" % n for n in range(10)]
    assert len(first.deliveries) == 4


@pytest.mark.parametrize("gone", ["group", "stream"])
async def test_there_is_nothing_to_reclaim_where_redis_has_forgotten(
    gone: str, worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.given_one()
    await redis(b"DEL", keys.lease(worker.name))
    if gone == "group":
        await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    else:
        await redis(b"DEL", keys.edge(IN))

    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)

    assert taken is not None
    assert (list(taken.deliveries), taken.finished) == ([], True)


async def test_a_message_deleted_by_hand_does_not_keep_a_dead_name_alive(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"XDEL", keys.edge(IN), delivery.entry_id)
    await redis(b"DEL", keys.lease(worker.name))

    for _ in range(2):
        taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)
        assert taken is not None
        await other.settle(*[done(left) for left in taken.deliveries])

    assert taken.finished
    assert worker.name not in await names_on(other)


# Crashes


async def crash(victim: Worker, taker: Worker, how: str = "died of SIGKILL") -> list[bytes]:
    """The victim dies, and the taker is given what it was at."""
    await Workers(taker.broker).record_death(victim.name, how)
    taken = await Workers(taker.broker).reclaim(IN, victim.name, taker.name, limit=100, crashed=how)
    assert taken is not None
    return [delivery.body for delivery in taken.deliveries]


async def test_a_message_is_buried_in_the_step_that_reclaims_its_last_worker(worker: Worker, sign_on: SignOn) -> None:
    await worker.publish(b"poison")
    victim = await sign_on("victim 0")
    await victim.read()
    for n in range(1, CRASHES_BEFORE_BURIAL):
        heir = await sign_on(f"victim {n}")
        assert await crash(victim, heir) == [b"poison"]
        victim = heir

    assert await crash(victim, worker) == []

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.body, letter.edge, letter.info["reason"]) == (b"poison", IN, "crash")
    assert "SIGKILL" in letter.info["error"]
    assert (await worker.balance()).dead == 1


async def test_a_message_whose_suspicion_was_cleared_starts_counting_anew(worker: Worker, sign_on: SignOn) -> None:
    await worker.publish(b"healthy")
    victim = await sign_on("victim 0")
    await victim.read()
    for n in range(1, 2 * CRASHES_BEFORE_BURIAL):
        heir = await sign_on(f"victim {n}")
        assert await crash(victim, heir) == [b"healthy"]
        (delivery,) = await heir.reader.own_pending(heir.name)
        await Workers(heir.broker).clear_suspicion(delivery)
        victim = heir

    assert (await worker.balance()).running == 1


async def test_a_worker_that_fell_silent_did_not_crash(
    worker: Worker, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"slow")
    victim = await sign_on("victim 0")
    await victim.read()
    for n in range(1, 3 * CRASHES_BEFORE_BURIAL):
        heir = await sign_on(f"victim {n}")
        await redis(b"DEL", keys.lease(victim.name))
        taken = await Workers(heir.broker).reclaim(IN, victim.name, heir.name, limit=100)
        assert taken is not None
        assert len(taken.deliveries) == 1
        victim = heir


async def test_a_foreign_entry_that_kills_its_workers_is_buried_with_its_fields_and_counted(
    worker: Worker, sign_on: SignOn, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"*", b"b", b"poison", b"trace", b"abc")
    victim = await sign_on("victim 0")
    await victim.read()
    for n in range(1, CRASHES_BEFORE_BURIAL):
        heir = await sign_on(f"victim {n}")
        await crash(victim, heir)
        victim = heir

    await crash(victim, worker)

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.body, letter.foreign) == (b"poison", {b"trace": b"abc"})
    balance = await worker.balance()
    assert (balance.entered, balance.dead) == (1, 1)


# Signing off


async def test_a_worker_that_signs_off_leaves_no_name_behind(worker: Worker, other: Worker) -> None:
    await worker.settle(done(await worker.given_one()))

    assert await Workers(worker.broker).retire(worker.name, EDGES) == 0

    assert worker.name not in await names_on(other)
    assert worker.name not in await Workers(other.broker).registered()
    assert await Workers(other.broker).leases([worker.name]) == {worker.name: None}
    assert await Workers(other.broker).death_records() == {}


async def test_a_name_with_something_pending_stays_and_has_a_death_record(worker: Worker, other: Worker) -> None:
    await worker.given_one(b"left")

    assert await Workers(worker.broker).retire(worker.name, EDGES, reason="stopped in a hurry") == 1

    assert await Workers(other.broker).death_records() == {worker.name: "stopped in a hurry"}
    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10)
    assert taken is not None
    assert [delivery.body for delivery in taken.deliveries] == [b"left"]


async def test_signing_off_from_edges_that_are_gone_is_no_error(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    await redis(b"DEL", keys.edge(OUT))

    assert await Workers(worker.broker).retire(worker.name, EDGES) == 0


async def test_a_death_record_ends_the_lease(worker: Worker, other: Worker) -> None:
    await worker.given_one()

    await Workers(other.broker).record_death(worker.name, "died of SIGSEGV")

    assert await Workers(other.broker).death_records() == {worker.name: "died of SIGSEGV"}
    assert await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10) is not None


async def test_who_is_forgotten_is_neither_registered_nor_recorded_dead(worker: Worker, other: Worker) -> None:
    await Workers(other.broker).record_death(worker.name, "died of SIGKILL")

    await Workers(other.broker).forget([worker.name])

    assert await Workers(other.broker).death_records() == {}
    assert set(await Workers(other.broker).registered()) == {other.name}
