"""Another number of shards: all is in its place afterwards, once, however often the move was begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.merging.primaries import examine_primaries
from flowq.broker.inspection.merging.shards_seen import hottest
from flowq.broker.keys import Keys
from flowq.broker.migration.resharding import OtherMove, ShardsHoldSomething, WorkersAlive
from flowq.broker.publishing import Publishing
from flowq.broker.records import pairs
from flowq.broker.shards.layout import SHARDS_FIELD, WrongLayout, agree_on_layout, read_layout, read_move
from flowq.broker.workers import Workers
from flowq.delivery.placement import shard_of
from flowq.errors import BrokerRefused
from tests.conformance.shards.moving_lab import STAGES, Lab, home_of, output, page, plan_of
from tests.conformance.worker import Worker, retried

N = 20
DELAYED = range(0, N, 5)
REMEMBERING = ("parse", "follow", "fetch")


@pytest.fixture
async def lab(dialer: Dialer, keys: Keys) -> AsyncIterator[Lab]:
    lab = Lab(dialer, keys)
    yield lab
    await lab.close()


def expected(n_shards: int) -> Counter[tuple[int, str, str, bool]]:
    return Counter(
        (home_of(name, page(n), n_shards) or 0, name, page(n).url, n in DELAYED) for name in STAGES for n in range(N)
    )


async def test_messages_move_to_the_shards_of_their_keys_and_are_counted_there(lab: Lab) -> None:
    await lab.fill(N, delayed=DELAYED)

    for n_shards in (6, 12):
        await lab.move(n_shards)

        assert await lab.messages(12) == expected(n_shards)
        stored = Counter((shard, f">{name}") for shard, name, _, _ in (await lab.messages(12)).elements())
        counted = await lab.counters(12, "in:")
        assert {(s, edge): n for s, by_edge in enumerate(counted) for edge, n in by_edge.items() if n} == stored


async def test_what_stages_have_seen_is_remembered_where_its_messages_live(lab: Lab) -> None:
    await lab.fill(N)

    for n_shards in (6, 12):
        await lab.move(n_shards)

        for name in REMEMBERING:
            assert [n for n in range(N) if not await lab.remembers(name, n, n_shards)] == []
            assert not await lab.remembers(name, N + n_shards, n_shards), "a new value is new"


@pytest.mark.parametrize("name", ["show", "watch"])
@pytest.mark.parametrize("moves", [(6,), (6, 12)], ids=["once", "twice"])
async def test_the_last_message_of_a_value_still_replaces_one_that_has_moved(
    lab: Lab, name: str, moves: Sequence[int]
) -> None:
    await lab.fill(N, delayed=DELAYED)
    for n_shards in moves:
        await lab.move(n_shards)

    assert [n for n in range(N) if await lab.remembers(name, n, moves[-1])] == [], "none is dropped"

    urls = Counter(url for _, stage, url, _ in (await lab.messages(12)).elements() if stage == name)
    assert urls == Counter(page(n).url for n in range(N)), "each has replaced the one before it"


async def test_rates_and_holds_move_with_their_keys(lab: Lab) -> None:
    await lab.fill(1)
    keys, hosts = lab.home.keys, [f"{n}.example" for n in range(30)]
    for host in hosts:
        await lab.home.answer(b"HSET", keys.rate("fetch"), host, f"at {host}")
        await lab.home.answer(b"HSET", keys.pace("fetch"), f"\n{host}", 7)
        await lab.home.answer(b"ZADD", keys.held_until("fetch"), 9, host)
    await lab.home.answer(b"HSET", keys.starts("count"), b"", b"5")

    await lab.move(6)

    for broker in lab.opened(6).shards:
        own = sorted(host for host in hosts if shard_of(host.encode(), 6) == broker.shard)
        rates = pairs(await broker.answer(b"HGETALL", broker.keys.rate("fetch")))
        assert sorted(rates) == [(host.encode(), f"at {host}".encode()) for host in own]
        assert sorted(await broker.answer(b"HKEYS", broker.keys.pace("fetch"))) == [f"\n{h}".encode() for h in own]
        assert sorted(await broker.answer(b"ZRANGE", broker.keys.held_until("fetch"), 0, -1)) == [
            host.encode() for host in own
        ]
        home = shard_of(b"count", 6) == broker.shard
        assert await broker.answer(b"HGET", broker.keys.starts("count"), b"") == (b"5" if home else None)


async def test_two_messages_of_one_id_that_are_delayed_at_once_both_move(lab: Lab, dialer: Dialer, keys: Keys) -> None:
    await lab.fill(0)
    worker = await Worker.sign_on(dialer, keys, "first", edges=(">count",))
    for n in (1, 2):  # an id may be used again after an hour
        message = output("count", n)._replace(header=b"order - - 0")
        await Publishing(lab.home).publish(">count", [message])
    await worker.settle(*[retried(delivery) for delivery in await worker.read()], stage="count")
    await lab.home.answer(b"DEL", keys.lease("first"))
    await worker.close()

    await lab.move(6)

    assert shard_of(b"count", 6) != 0
    assert await lab.messages(6) == Counter((shard_of(b"count", 6), "count", page(n).url, True) for n in (1, 2))


async def test_a_move_that_is_killed_again_and_again_loses_and_doubles_nothing(lab: Lab) -> None:
    await lab.fill(N, delayed=DELAYED)
    n_killed, n_requests = 0, 3

    for n_shards in (4, 7):
        while not await lab.moved_before_death(n_shards, n_requests):
            n_killed, n_requests = n_killed + 1, n_requests * 3 // 2 + 5
        n_requests = 3

    assert n_killed > 5
    assert await lab.messages(7) == expected(7)
    counted = await lab.counters(7, "in:")
    assert sum(sum(by_edge.values()) for by_edge in counted) == N * len(STAGES)
    for name in REMEMBERING:
        assert [n for n in range(N) if not await lab.remembers(name, n, 7)] == []


async def test_programs_are_kept_out_while_a_move_is_unfinished(lab: Lab) -> None:
    await lab.fill(3)
    assert not await lab.moved_before_death(4, 30)

    assert await read_move(lab.home) is not None
    with pytest.raises(WrongLayout, match="are being moved"):
        await agree_on_layout(lab.opened(4), 4)
    with pytest.raises(OtherMove):
        await lab.move(2)

    await lab.move(4)
    await agree_on_layout(lab.opened(4), 4)


async def test_a_key_of_another_type_stops_a_move_with_an_error_of_flowq(lab: Lab) -> None:
    await lab.fill(3)
    for n in range(30):
        await lab.home.answer(b"HSET", lab.home.keys.rate("fetch"), f"{n}.example", "1")
    assert not await lab.moved_before_death(4, 30)
    for broker in lab.opened(4).shards[1:]:
        await broker.answer(b"SET", broker.keys.rate("fetch"), b"by another program")

    with pytest.raises(BrokerRefused):
        await lab.move(4)


@pytest.mark.parametrize("score", [b"inf", b"-inf", b"1e300"])
async def test_a_message_that_another_program_has_delayed_for_ever_moves_as_well(lab: Lab, score: bytes) -> None:
    await lab.fill(N, delayed=DELAYED)
    for number in DELAYED:
        await lab.home.answer(b"ZADD", lab.home.keys.delayed(">count"), score, b"count-%d" % number)

    await lab.move(6)

    assert await lab.messages(6) == expected(6)


@pytest.mark.parametrize("layout", [b"moving 1 4", b"2", b"nonsense"])
async def test_a_shard_that_has_been_restored_from_before_a_move_agrees_again_after_apply(
    lab: Lab, layout: bytes
) -> None:
    await lab.fill(3)
    await lab.move(4)
    before, restored = await lab.messages(4), lab.opened(4).shards[2]
    await restored.answer(b"HSET", restored.keys.heads, b"layout", layout)
    with pytest.raises(WrongLayout, match="are being moved"):
        await agree_on_layout(lab.opened(4), 4)

    await lab.move(4)

    await agree_on_layout(lab.opened(4), 4)
    assert await lab.messages(4) == before


@pytest.mark.parametrize("recorded", [None, b"2", b"nonsense"])
async def test_a_number_on_record_that_another_program_has_changed_moves_and_forgets_nothing(
    lab: Lab, recorded: bytes | None
) -> None:
    await lab.fill(N, delayed=DELAYED)
    await lab.move(6)
    plan = lab.home.keys.plan
    await lab.home.answer(b"HDEL", plan, SHARDS_FIELD)
    if recorded is not None:
        await lab.home.answer(b"HSET", plan, SHARDS_FIELD, recorded)

    with pytest.raises(WrongLayout) as refused:
        await lab.move(6)

    assert f"HSET {plan} *shards 6" in str(refused.value)
    await lab.home.answer(b"HSET", plan, SHARDS_FIELD, 6)
    await lab.move(12)
    assert await lab.messages(12) == expected(12)
    for name in REMEMBERING:
        assert [n for n in range(N) if not await lab.remembers(name, n, 12)] == []


async def test_nothing_moves_while_a_worker_lives_in_any_shard(lab: Lab) -> None:
    await lab.fill(3)
    await lab.move(4)
    before, there = await lab.messages(4), lab.opened(4).shards[3]
    await Workers(there).register("late", {}, lease_ms=600_000, heartbeat="1")

    with pytest.raises(WorkersAlive, match="late"):
        await lab.move(6)

    assert await lab.messages(6) == before
    assert await read_layout(lab.home) == 4
    await agree_on_layout(lab.opened(4), 4)


async def test_a_process_that_lives_is_named_once(lab: Lab) -> None:
    await lab.fill(3)
    facts = {"host": "one", "pid": 7}
    for name in ("one:7:first", "one:7:second"):
        await Workers(lab.home).register(name, facts, lease_ms=600_000, heartbeat="1")

    with pytest.raises(WorkersAlive, match="served by one:7:first\n"):
        await lab.move(4)


async def test_a_shard_is_not_called_busy_for_what_came_before_a_move(lab: Lab) -> None:
    await lab.fill(3)
    for counter in ("in:>fetch", "ok:fetch"):
        await lab.home.answer(b"HSET", lab.home.keys.stats, counter, 5000)
    await lab.move(4)
    brokers = lab.opened(4).shards

    async def busy() -> list[int | None]:
        shards = (await overview_of(brokers[0], plan_of(4))).shards
        return [shards.hot if shards else None, hottest((await examine_primaries(brokers[0])).ok)]

    assert await busy() == [None, None]
    for counter in ("in:>fetch", "ok:fetch"):
        await brokers[2].answer(b"HINCRBY", brokers[2].keys.stats, counter, 1000)
    assert await busy() == [2, 2]


async def test_shards_that_hold_something_do_not_go(lab: Lab) -> None:
    await lab.fill(3)
    await lab.move(4)
    last = lab.opened(4).shards[3]
    await last.answer(b"XADD", last.keys.dead("parse"), b"*", b"b", b"dead")

    with pytest.raises(ShardsHoldSomething, match="1 dead letter"):
        await lab.move(3)

    assert await read_layout(lab.home) == 4


async def test_values_from_before_there_were_shards_move_beside_those_that_tell_their_shard(lab: Lab) -> None:
    await lab.fill(N)
    await lab.move(2)
    first = lab.opened(2).shards[0]
    await first.answer(b"DEL", first.keys.seen("fetch"))  # as when all of it has expired
    new = [n for n in range(N, 2 * N) if not await lab.remembers("fetch", n, 2)]
    old = [n for n in range(N) if home_of("fetch", page(n), 2) == 1]
    assert {home_of("fetch", page(n), 5) for n in old} & {home_of("fetch", page(n), 5) for n in new} & {2, 3, 4}

    await lab.move(5)

    assert [n for n in (*old, *new) if not await lab.remembers("fetch", n, 5)] == []


async def test_shards_do_not_go_whose_remembered_values_would_not_fit_into_the_others(lab: Lab) -> None:
    await lab.fill(N)
    await lab.move(6)
    first = lab.opened(6).shards[0]
    await first.answer(b"DEL", first.keys.seen("fetch"))  # as when all of it has expired
    for n in range(N, 2 * N):
        await lab.remembers("fetch", n, 6)
    await lab.empty(6)

    with pytest.raises(ShardsHoldSomething, match="values that fetch has seen"):
        await lab.move(2)

    assert await read_layout(lab.home) == 6
    await agree_on_layout(lab.opened(6), 6)
    await lab.move(1)
    seen = [n for n in range(N) if home_of("fetch", page(n), 6) != 0]
    assert [n for n in (*seen, *range(N, 2 * N)) if not await lab.remembers("fetch", n, 1)] == []


@pytest.mark.parametrize("n_left", [2, 1])
async def test_values_that_have_expired_say_nothing_of_how_others_are_stored(lab: Lab, n_left: int) -> None:
    await lab.fill(N)
    await lab.move(6)
    for broker in lab.opened(6).shards:
        key = broker.keys.seen_until("follow")
        *form, _, swept = (await broker.answer(b"HGET", key, b"about")).split(b" ")
        await broker.answer(b"DEL", key)
        await broker.answer(b"HSET", key, b"about", b" ".join((*form, b"1", swept)))
    new = [n for n in range(N, 2 * N) if home_of("follow", page(n), 6) != 0]
    assert [n for n in new if await lab.remembers("follow", n, 6)] == []
    await lab.empty(6)

    await lab.move(n_left)

    assert [n for n in new if not await lab.remembers("follow", n, n_left)] == []


@pytest.mark.parametrize("n_left", [2, 1])
async def test_what_has_been_seen_since_there_are_shards_is_remembered_by_fewer(lab: Lab, n_left: int) -> None:
    await lab.fill(0)
    await lab.move(6)
    assert [n for name in REMEMBERING for n in range(N) if await lab.remembers(name, n, 6)] == []
    await lab.empty(6)

    n_requests = 100
    while not await lab.moved_before_death(n_left, n_requests):
        n_requests *= 2

    for name in REMEMBERING:
        assert [n for n in range(N) if not await lab.remembers(name, n, n_left)] == [], name


@pytest.mark.parametrize("n_left", [2, 1])
async def test_empty_shards_go_and_what_they_remember_moves(lab: Lab, n_left: int) -> None:
    await lab.fill(N)
    await lab.move(6)
    await lab.empty(6)

    await lab.move(n_left)

    for name in REMEMBERING:
        assert [n for n in range(N) if not await lab.remembers(name, n, n_left)] == []
    assert await read_layout(lab.opened(1)) == n_left
