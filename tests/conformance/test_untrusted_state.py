"""Data that another program wrote into the keys of a pipeline costs no message and stops no worker."""

from __future__ import annotations

import pytest

from flowq.broker.edges import Edges
from flowq.broker.flow_control.limiter import Verdict
from flowq.broker.inspection.browse import Browser, State
from flowq.broker.inspection.discovery import Discovery
from flowq.broker.inspection.edge_stats import EdgeInspection
from flowq.broker.inspection.family import FamilySearch
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.pacing_keys import KeyInspection
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.dead_letters.purging import Purging
from flowq.dead_letters.stored_letters import StoredLetters, WayBack
from flowq.delivery.policy import Rate
from flowq.delivery.stored import LAST_MS
from flowq.errors import BrokerRefused
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.worker_health import workers_of
from tests.conformance import paced
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, OUT, PLAN, Worker, buried, done, output

NUMBERS = [b"9" * 20, b"9" * 400, b"9" * 5000, b"-1", b"1_0", "٣".encode(), b"1e3", b""]
GARBAGE = [b"many", b"", b"9" * 5000, b"1e400", b"nan", b"\xff\x00", b"9223372036854775807"]


# Headers


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number[:8]!r}x{len(number)}")
@pytest.mark.parametrize(
    "header", [b"x - - %b", b"x - - 0 a=%b", b"x - - 0 c=%b", b"x - - 0 f=%b", b"x - - 1 f=%b t=No"]
)
async def test_a_number_that_no_version_writes_costs_the_entry_alone(
    header: bytes, number: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    given = header % number
    await redis(b"XADD", keys.edge(IN), b"*", b"h", given, b"b", b'{"n":1}')
    await worker.publish(b'{"n":2}')

    odd, sound = await worker.read()
    await worker.settle(buried(odd), done(sound))

    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.header, letter.body) == (given, b'{"n":1}')
    balance = await worker.balance()
    assert (balance.ok, balance.dead) == (1, 1)


async def test_an_entry_from_the_end_of_time_is_read_and_settled(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"18446744073709551615-18446744073709551614", b"b", b"1")

    delivery = await worker.read_one()

    assert delivery.appended_ms == LAST_MS
    assert delivery.retried(counted=True).decode(delivery.retried(counted=True).encode()).first_ms == LAST_MS
    assert (await EdgeInspection(worker.broker).stats([IN]))[IN].waiting_since_ms is None
    await worker.settle(buried(delivery))
    assert (await worker.balance()).dead == 1


# Counters


@pytest.mark.parametrize("value", GARBAGE)
async def test_a_broken_counter_loses_no_settlement(value: bytes, worker: Worker, keys: Keys, redis: Command) -> None:
    first, second = await worker.given_one(), await worker.given_one()
    for field in ("ok:parse", "dead:parse", "out:parse", f"in:{OUT}"):
        await redis(b"HSET", keys.stats, field, value)

    receipt = await worker.settle(done(first, output(OUT, b"1")), buried(second))

    assert receipt.won == 2
    snapshot = await worker.snapshot()
    assert (snapshot.edges[OUT].waiting, snapshot.dead_letters["parse"]) == (1, 1)
    assert all(snapshot.counters[field] == 1 for field in ("ok:parse", "dead:parse", "out:parse", f"in:{OUT}"))


@pytest.mark.parametrize("value", GARBAGE)
async def test_a_counter_that_is_none_stops_no_push_and_no_repair(
    value: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.settle(buried(await worker.given_one()))
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    for field in (f"in:{IN}", "dead:parse", "purged:parse"):
        await redis(b"HSET", keys.stats, field, value)

    await worker.publish(b"2")
    back = WayBack(letter.entry_id, b"x - - 0", "")
    n_back = await StoredLetters(worker.broker, "parse").put_back(IN, [back])
    purged = await Purging(worker.broker).purge([PLAN.edge_by_name[IN]], {"parse": 10})

    assert (n_back, purged) == (1, {"parse": 2})


async def test_a_suspicion_that_is_no_number_does_not_prevent_reclaiming(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"HSET", keys.suspects, f"{IN}|{delivery.entry_id.decode()}", b"many")

    taken = await Workers(other.broker).reclaim(IN, worker.name, other.name, limit=10, heartbeat="1", crashed="killed")

    assert taken is not None
    assert [one.entry_id for one in taken.deliveries] == [delivery.entry_id]


@pytest.mark.parametrize("key", ["stats", "delayed_bodies", "delayed"])
async def test_a_purge_of_a_wrong_key_removes_nothing(key: str, worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"1")
    name = keys.stats if key == "stats" else getattr(keys, key)(IN)
    await redis(b"DEL", name)
    await redis(b"SET", name, b"somebody's")

    with pytest.raises(BrokerRefused):
        await Purging(worker.broker).purge([PLAN.edge_by_name[IN]], {"parse": 10})

    assert await redis(b"XLEN", keys.edge(IN)) == 1


# Delayed, queued, paced


async def test_a_delayed_message_without_a_line_break_is_not_lost(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.delayed_bodies(IN), b"odd", b'{"n":7}')
    await redis(b"ZADD", keys.delayed(IN), 1, b"odd")
    _, (sight,) = await Browser(worker.broker).peek([IN], most=5)

    assert (await Edges(worker.broker).promote([IN]))[0] == 1

    delivery = await worker.read_one()
    assert (sight.state, sight.delivery.body, delivery.body) == (State.DELAYED, b'{"n":7}', b'{"n":7}')
    await worker.settle(done(delivery))
    assert (await worker.balance()).ok == 1


@pytest.mark.parametrize("score", [b"inf", b"1e300", b"9999999999999999"])
async def test_a_message_due_at_the_end_of_time_is_waited_for_and_shown(
    score: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"HSET", keys.delayed_bodies(IN), b"odd", b"x - - 0\n1")
    await redis(b"ZADD", keys.delayed(IN), score, b"odd")

    _, next_ms = await Edges(worker.broker).promote([IN])

    assert next_ms is not None
    assert 0 < next_ms <= 86_400_000
    assert (await EdgeInspection(worker.broker).stats([IN]))[IN].last_due_ms == LAST_MS
    search = FamilySearch(PLAN, worker.broker, "x")
    await search.step()
    assert [found.at_ms for found in search.found] == [LAST_MS]
    assert (await overview_of(worker.broker, PLAN)).snapshot.outstanding == 1


@pytest.mark.parametrize("value", GARBAGE)
async def test_turns_are_granted_whatever_is_written_in_their_records(
    value: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    turns = paced.limiter(worker, Rate(paced.FAST, by=str, concurrency=1, adaptive=True))
    (delivery,) = await paced.given(worker, 1)
    for key in (keys.rate("parse"), keys.pace("parse"), keys.hold_info("parse")):
        await redis(b"HSET", key, b"a", value)
    await redis(b"ZADD", keys.slots("parse"), 0, b"a\nno more fields")
    await redis(b"ZADD", keys.queue("parse"), 0, b"a\nno-edge", 0, b"a\nelsewhere\nodd")
    await redis(b"ZADD", keys.held_until("parse"), 1, b"a")

    (turn,) = await paced.asked(turns, worker, delivery)
    assert await turns.hold("a", 0.0, "slow down") >= 0
    (held,) = await KeyInspection(worker.broker).held(["parse"])
    await paced.end(turns, paced.done(worker, delivery, Verdict.FAILED, took=1.0), sweep=True)
    await turns.expire_idle_keys()

    assert not turn.must_queue
    assert (held.key, held.reason) == ("a", "slow down")


async def test_a_called_message_without_a_line_break_is_not_lost(worker: Worker, keys: Keys, redis: Command) -> None:
    turns = paced.limiter(worker, Rate(paced.FAST, by=str, concurrency=1))
    await redis(b"HSET", keys.delayed_bodies(IN), b"odd", b"7")
    await redis(b"ZADD", keys.delayed(IN), 9e12, b"odd")
    await redis(b"ZADD", keys.queue("parse"), 0, f"a\n0\n{IN}\nodd")

    await turns.dequeue([], sweep=True)

    assert (await worker.read_one()).body == b"7"


# Records


WORKERS = [
    b"",
    b"{",
    b"[]",
    b'{"worker":5,"pid":"x","stages":7}',
    b'{"worker":"forged","pid":99999999999999999999,"host":{},"stages":"all","edges":[1,null],"lease_seconds":"x"}',
    b'{"worker":"\\u001b[2J","pid":-1,"formerly":[["x"]],"where":3}',
    b"[" * 5000,
    b"\xff",
]


@pytest.mark.parametrize("record", WORKERS, ids=lambda record: repr(record[:24]))
async def test_a_forged_worker_spoils_no_view(record: bytes, worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.workers, b"forged", record, b"\xff\xfe", record)
    await redis(b"SET", keys.lease("forged"), b"7 1e400")

    overview = await overview_of(worker.broker, PLAN)
    health = {found.worker: found for found in await workers_of(worker.broker)}

    assert "first" in overview.workers
    assert health["first"].has_lease
    assert health["forged"].silent_seconds <= 1e9
    assert isinstance(overview.as_json(), dict)


async def test_what_a_consumer_of_any_name_was_given_is_reclaimed(worker: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"1")
    await redis(b"XREADGROUP", b"GROUP", b"flowq", b"\xff\n", b"STREAMS", keys.edge(IN), b">")

    (name,) = (await Workers(worker.broker).consumers_of([IN]))[IN] - {worker.name}
    taken = await Workers(worker.broker).reclaim(IN, name, worker.name, limit=10, crashed="killed")
    assert taken is not None
    await worker.settle(done(taken.deliveries[0]))
    await Workers(worker.broker).retire(name, EDGES)
    await Workers(worker.broker).forget([name])

    assert (await worker.balance()).ok == 1
    assert name not in (await Workers(worker.broker).consumers_of([IN]))[IN]


PLANS = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"accepts":5,"schema":[],"seen_ms":"x"}',
    b'{"accepts":[1],"seen_ms":1e300}',
    b"\xff",
]


@pytest.mark.parametrize("record", PLANS)
async def test_a_forged_plan_spoils_no_view(record: bytes, worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.plan, IN, record, b">old", record, b"\x1b[2J>x", record, b"\xff", record, b">", record)

    recorded = await RecordedPlan(worker.broker).edges()
    plan: Plan = await Discovery(worker.broker).plan()
    orphans = await RecordedPlan(worker.broker).orphans(PLAN)

    assert recorded.keys() == {IN, ">old"}
    assert {stage.name for stage in plan.stages} == {"parse", "old"}
    assert [orphan.edge for orphan in orphans] == [">old"]


async def test_forged_figures_spoil_no_view(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.run, b"id", b"r", b"\xff", b"\xff")
    await redis(b"HSET", keys.paused, b"parse", b"soon", b"\xff", b"1e400")
    await redis(b"HSET", keys.stats, b"\xff", b"1", b"ok:parse", b"9" * 5000)
    for i in range(8):
        record = [b"run", b"r", b"at", b"x", b"parse 99999", b"1", b"parse x", b"\xff", b"was ok:parse", b"9" * 5000]
        await redis(b"HSET", keys.throughput()[i], *record)

    overview = await overview_of(worker.broker, PLAN)

    assert overview.snapshot.is_paused("parse")
    assert overview.stages["parse"].balance.ok == 0


async def test_a_death_record_in_any_words_is_read(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"HSET", keys.death_records, b"gone", b"\xff", b"\xff", b"crash: x")

    broker: Broker = worker.broker
    assert set((await Workers(broker).death_records()).values()) == {"\\xff", "crash: x"}
