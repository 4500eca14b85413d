"""Views and repairs of large messages, on a server that limits the size of its replies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import orjson
import pytest

import flowq
from flowq.broker.client.connection import UrlDialer
from flowq.broker.inspection.browse import Browser, State
from flowq.broker.keys import Keys
from flowq.broker.migration.migrating import Migration
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.selection import Selection
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.policy import Keep
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from tests.conformance.worker import EDGES, IN, PLAN, Item, Worker, buried, done, retried
from tests.eventually import eventually
from tests.redis_server import KINDS, RedisServer

N, LARGE, TOO_LARGE = 20, 200_000, 3_000_000
ODD = 7
"""The number of the message that is too large to be sent alone."""
OTHERS = [n for n in range(N) if n != ODD]
BODIES = [b'{"n":%d,"text":"%b"}' % (n, b"x" * (TOO_LARGE if n == ODD else LARGE)) for n in range(N)]
ANY_N = Condition.parse("n>=0")


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture
async def worker(server: RedisServer, unique_namespace: str) -> AsyncIterator[Worker]:
    worker = await Worker.sign_on(UrlDialer(server.url), Keys(unique_namespace, PLAN.name), "w")
    yield worker
    await set_limit(worker.broker, b"normal 0 0 0")
    await worker.close()


async def set_limit(broker: Broker, limit: bytes = b"normal 1mb 1mb 1") -> None:
    assert await broker.ask([(b"CONFIG", b"SET", b"client-output-buffer-limit", limit)]) == [b"OK"]


def keeping() -> Plan:
    stages = (replace(stage, keep=Keep(1000, 3_600_000)) if stage.name == "parse" else stage for stage in PLAN.stages)
    return replace(PLAN, stages=tuple(stages))


async def bury_all(worker: Worker) -> DeadLetters:
    await worker.publish(*BODIES)
    await worker.settle(*map(buried, await worker.read()))
    await set_limit(worker.broker)
    return DeadLetters(PLAN, worker.broker)


def numbers(bodies: list[bytes]) -> list[int]:
    return [orjson.loads(body)["n"] for body in bodies]


async def test_large_dead_letters_are_listed_and_one_that_cannot_be_sent_is_named(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    letters = await bury_all(worker)

    assert numbers([letter.body async for letter in letters.each()]) == OTHERS

    (record,) = caplog.records
    assert worker.broker.keys.dead("parse") in record.message
    assert "client-output-buffer-limit" in record.message


async def test_large_dead_letters_are_put_back_changed_and_removed(worker: Worker) -> None:
    letters = await bury_all(worker)

    assert await letters.remove(Selection(where=(Condition.parse("n<5"),))) == {"parse": 5}
    ids = [letter.id async for letter in letters.each()]
    fixed = await letters.fix("parse", dict.fromkeys(ids, b'{"n":1}'))
    assert (fixed.n, fixed.missing) == (N - 5 - 1, ())
    assert await letters.put_back(Selection(where=(ANY_N,))) == {"parse": N - 5 - 1}
    assert await letters.put_back() == {"parse": 1}, "without a look at bodies the large one goes back as well"


async def test_a_dead_letter_that_cannot_be_sent_can_be_given_a_smaller_body(worker: Worker) -> None:
    letters = await bury_all(worker)
    reply = await StoredLetters(worker.broker, "parse").read(bodies=False)

    fixed = await letters.fix("parse", {reply[ODD].entry_id: b'{"n":1}'}, and_put_back=True)

    assert (fixed.n, fixed.missing) == (1, ())
    assert (await worker.snapshot()).dead_letters["parse"] == N - 1


async def test_large_kept_messages_run_again(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    plan = keeping()
    await worker.settling.close()
    worker.settling = Settling(worker.broker, {}, plan.keeping)
    await worker.publish(*BODIES)
    await worker.settle(*map(done, await worker.read()))
    await set_limit(worker.broker)
    kept = Kept(plan, worker.broker, "parse")

    assert await kept.replay(where=(ANY_N,)) == N - 1
    (record,) = caplog.records
    assert worker.broker.keys.kept("parse") in record.message
    assert await kept.replay() == 1


async def test_large_messages_are_seen_where_they_run_wait_and_are_delayed(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    await worker.publish(*BODIES)
    running = await worker.read(count=10)
    await worker.settle(*map(retried, running[:5]))
    await set_limit(worker.broker)

    _, sights = await Browser(worker.broker).peek(EDGES, most=100)

    seen = {state: numbers([s.delivery.body for s in sights if s.state is state]) for state in State}
    assert seen[State.RUNNING] == [5, 6, 8, 9]
    assert seen[State.WAITING] == list(range(10, N))
    assert sorted(seen[State.DELAYED]) == list(range(5))
    (record,) = caplog.records
    assert running[ODD].entry_id.decode() in record.message


async def test_large_messages_are_checked_before_they_move_to_a_new_stage(worker: Worker) -> None:
    @flowq.stage
    def parse_again(item: Item) -> None: ...

    plan = flowq.Pipeline("lab", parse_again).plan
    await RecordedPlan(worker.broker).record(PLAN)
    await worker.publish(*BODIES)
    await worker.settle(*map(retried, (await worker.read(count=10))[:5]))
    await set_limit(worker.broker)

    changes = await Migration(worker.broker, plan).changes(moves={"parse": "parse_again"})

    (moved,) = (change for change in changes.changes if change.kind == "moved")
    assert (moved.messages, moved.fit.looked_at, moved.fit.misfits) == (N, N - 1, 0)


async def test_what_a_dead_worker_had_is_reclaimed_in_parts(worker: Worker, server: RedisServer) -> None:
    heir = await Worker.sign_on(worker.broker.dialer, worker.broker.keys, "heir")
    await worker.publish(*(BODIES[n] for n in OTHERS))
    await worker.read()
    await Workers(worker.broker).record_death(worker.name, "killed")
    await set_limit(worker.broker)
    found: set[bytes] = set()

    async def has_all() -> bool:
        with contextlib.suppress(BrokerUnavailable):
            reclaimed = await Workers(heir.broker).reclaim(IN, worker.name, heir.name, limit=200)
            found.update(delivery.entry_id for delivery in (reclaimed.deliveries if reclaimed else ()))
        with contextlib.suppress(BrokerUnavailable):
            found.update(delivery.entry_id for delivery in await heir.reader.own_pending(heir.name))
        return len(found) == len(OTHERS)

    try:
        await eventually(has_all)
    finally:
        await heir.close()


async def test_a_redis_that_is_gone_is_not_taken_for_one_that_sends_too_little(unique_namespace: str) -> None:
    with RedisServer("debian") as server:
        worker = await Worker.sign_on(UrlDialer(server.url), Keys(unique_namespace, PLAN.name), "w")
        letters = await bury_all(worker)
        server.kill()

        with pytest.raises(BrokerUnavailable):
            await letters.first(limit=10)
        await worker.close()
