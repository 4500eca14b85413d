"""What the inspector promises, on every server and on the one in memory."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from flowq import Pipeline, Reject, Retry, source, stage
from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.delivery.message import Header
from flowq.delivery.settlement import Output
from flowq.errors import NotFound
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from tests.conftest import Servers
from tests.eventually import eventually
from tests.redis_server import KINDS, Kind

AT_MOST_SECONDS = 60.0


@pytest.fixture(params=[*KINDS, "memory"])
def dialer(request: pytest.FixtureRequest, redis_server: Servers) -> Dialer:
    """An empty server of each kind."""
    kind: Kind = request.param
    if request.param == "memory":
        return MemoryDialer()
    server = redis_server(kind)
    server.flush()
    return UrlDialer(server.url)


@pytest.fixture
async def broker(dialer: Dialer) -> AsyncIterator[Broker]:
    broker = Broker(dialer, Keys("flowq", "numbers"))
    yield broker
    await broker.close()


Verdict = Callable[[int], str]
"""Why a number is bad; "" when it is good."""


def is_even(n: int) -> str:
    return "" if n % 2 else "even"


def is_never_bad(n: int) -> str:
    return ""


def numbers(n: int = 10, *, check: Verdict = is_never_bad, keep: Verdict = is_never_bad, attempts: int = 1) -> Plan:
    """Count to `n`, check each number, keep each; either stage may find one bad. Stored: how often each was kept."""

    @source
    def count() -> Iterator[int]:
        yield from range(n)

    @stage(retry=Retry(attempts=attempts, base=0.001))
    async def checked(number: int) -> int:
        if why := check(number):
            raise ValueError(why)
        return number

    @stage(concurrency=1)
    async def kept(number: int) -> None:
        if why := keep(number):
            raise Reject(why)

    return Pipeline("numbers", count >> checked >> kept).plan


@asynccontextmanager
async def worker(plan: Plan, broker: Broker) -> AsyncIterator[Run]:
    """A worker for the stages of a plan, and its sources if they have not finished."""
    run = Run(plan, broker)
    sources = await run.begin(RunOptions())
    runner = Runner(plan, broker, RunOptions(), sources=sources)
    await runner.start()
    try:
        yield run
    finally:
        await runner.stop()


async def work_off(plan: Plan, broker: Broker) -> None:
    """Run a pipeline until it is drained."""
    async with worker(plan, broker) as run:

        async def is_drained() -> bool:
            return (await run.snapshot()).is_drained

        await eventually(is_drained)


async def push(broker: Broker, edge: str, *bodies: bytes) -> None:
    outputs = [Output(edge, Header.entering(f"m{i}").encode(), body) for i, body in enumerate(bodies)]
    await Publishing(broker).publish(edge, outputs)


# State


async def test_a_pipeline_that_never_ran_is_empty_and_adds_up(broker: Broker) -> None:
    inspector = Inspector(numbers(), broker)

    balances = await inspector.balance()

    assert list(balances) == ["count", "checked", "kept"]
    assert all(balance.entered == 0 and balance.adds_up for balance in balances.values())
    assert await inspector.dead_letters() == []
    assert await inspector.groups() == []
    assert await inspector.workers() == {}


async def test_the_balance_counts_what_the_run_did(broker: Broker) -> None:
    plan = numbers(10, check=is_even)
    await work_off(plan, broker)

    balances = await Inspector(plan, broker).balance()

    assert (balances["checked"].entered, balances["checked"].ok, balances["checked"].dead) == (10, 5, 5)
    assert (balances["kept"].entered, balances["kept"].ok) == (5, 5)
    assert all(balance.adds_up for balance in balances.values())


async def test_workers_are_those_whose_lease_lives(broker: Broker) -> None:
    for name in ("here:1", "there:2"):
        await Workers(broker).register(name, {"pid": 7, "stages": ["kept"]}, lease_ms=60_000, heartbeat="1")
    await Workers(broker).record_death("there:2", "killed")

    workers = await Inspector(numbers(), broker).workers()

    assert list(workers) == ["here:1"]
    assert workers["here:1"]["stages"] == ["kept"]


# Dead letters


async def test_a_dead_letter_tells_what_where_when_and_why(broker: Broker) -> None:
    plan = numbers(1, check=is_even, attempts=3)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await work_off(plan, broker)

    (letter,) = await Inspector(plan, broker).dead_letters()

    assert (letter.stage, letter.edge, letter.message) == ("checked", "count>checked", 0)
    assert (letter.reason, letter.attempts) == ("attempts exhausted", 3)
    assert (letter.error, letter.error_type) == ("ValueError: even", "ValueError")
    assert "raise ValueError(why)" in letter.traceback
    assert before <= letter.first_at <= letter.died_at <= datetime.now(UTC)
    assert letter.first_at.tzinfo is UTC
    assert (letter.root_id, letter.parent_id, letter.hops) == (letter.message_id, "", 0)
    assert letter.run == (await Inspector(plan, broker).snapshot()).run["id"]
    assert letter.worker != ""


async def test_a_dead_letter_names_the_message_it_came_from(broker: Broker) -> None:
    plan = numbers(1, keep=is_even)
    await work_off(plan, broker)

    (letter,) = await Inspector(plan, broker).dead_letters()

    assert (letter.stage, letter.edge, letter.hops) == ("kept", "checked>kept", 1)
    assert letter.parent_id == letter.root_id != letter.message_id


async def test_letters_come_by_stage_and_then_in_the_order_they_died(broker: Broker) -> None:
    plan = numbers(20, check=lambda n: "odd" if n % 2 else "", keep=lambda n: "four" if n % 4 == 0 else "")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    letters = await inspector.dead_letters()

    assert [letter.stage for letter in letters] == ["checked"] * 10 + ["kept"] * 5
    for name in ("checked", "kept"):
        died = [tuple(map(int, letter.id.split("-"))) for letter in letters if letter.stage == name]
        assert died == sorted(died)
    assert await inspector.dead_letters(limit=3) == letters[:3]
    assert await inspector.dead_letters(limit=0) == []


async def test_letters_are_found_by_stage_by_error_and_by_either_id(broker: Broker) -> None:
    plan = numbers(9, check=lambda n: ("a [b]", "abc", "")[n % 3], keep=lambda n: "late")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)
    letters = await inspector.dead_letters()

    in_kept = await inspector.dead_letters("kept")
    assert Counter(letter.line for letter in in_kept) == {"Reject: late": 3}
    globbed = await inspector.dead_letters(error="*: ab*")
    assert Counter(letter.line for letter in globbed) == {"ValueError: abc": 3}
    assert await inspector.dead_letters("kept", error="*abc") == []
    # Two stages may have a letter each of the same millisecond, and then of the same id.
    namesakes = [letter for letter in letters if letter.id == letters[4].id]
    assert await inspector.dead_letters(ids=[letters[4].id]) == namesakes
    assert await inspector.dead_letters(ids=[letters[4].message_id]) == [letters[4]]


async def test_a_stage_that_does_not_exist_is_an_error(broker: Broker) -> None:
    inspector = Inspector(numbers(), broker)

    with pytest.raises(NotFound, match="chekced"):
        await inspector.dead_letters("chekced")
    with pytest.raises(NotFound, match="chekced"):
        await inspector.replay("chekced")


async def test_groups_count_letters_by_stage_and_error(broker: Broker) -> None:
    def verdict(n: int) -> str:
        return f"kind {'abc'[n % 3]}" if n % 4 else ""

    plan = numbers(60, check=verdict, keep=lambda n: "late" if n > 30 else "")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    groups = await inspector.groups()

    expected = Counter(("checked", f"ValueError: {verdict(n)}") for n in range(60) if verdict(n))
    expected["kept", "Reject: late"] = sum(n > 30 and not verdict(n) for n in range(60))
    assert {(group.stage, group.error): group.count for group in groups} == expected
    assert [group.stage for group in groups] == ["checked"] * 3 + ["kept"]
    letters = await inspector.dead_letters()
    for group in groups:
        theirs = [letter for letter in letters if (letter.stage, letter.line) == (group.stage, group.error)]
        assert (group.first_died_at, group.last_died_at) == (theirs[0].died_at, theirs[-1].died_at)
        assert letters[group.position - 1] == theirs[0]


async def test_a_body_that_is_not_json_is_kept_to_the_byte(broker: Broker) -> None:
    plan, body = numbers(0), b'{"\xff\x00'
    await push(broker, ">checked", body)
    await work_off(plan, broker)

    (letter,) = await Inspector(plan, broker).dead_letters()

    assert (letter.reason, letter.message, letter.body) == ("undecodable", None, body)
    as_json = json.loads(json.dumps(letter.as_json()))
    assert b64decode(as_json["body_base64"]) == body
    assert "message" not in as_json


# Replay


async def test_what_is_replayed_runs_again_and_the_balance_adds_up_at_every_step(broker: Broker) -> None:
    await work_off(numbers(10, check=is_even), broker)
    fixed = numbers(10)
    inspector = Inspector(fixed, broker)

    assert await inspector.replay() == {"checked": 5}

    waiting = (await inspector.balance())["checked"]
    assert (waiting.entered, waiting.ok, waiting.dead, waiting.waiting) == (10, 5, 0, 5)
    assert waiting.adds_up
    await work_off(fixed, broker)
    balances = await inspector.balance()
    assert (balances["checked"].ok, balances["kept"].ok) == (10, 10)
    assert all(balance.adds_up for balance in balances.values())
    assert await inspector.dead_letters() == []


async def test_letters_of_an_earlier_run_enter_the_balance_anew(broker: Broker) -> None:
    await work_off(numbers(10, check=is_even), broker)
    fixed = numbers(4)
    await work_off(fixed, broker)
    inspector = Inspector(fixed, broker)

    assert await inspector.replay() == {"checked": 5}

    await work_off(fixed, broker)
    balances = await inspector.balance()
    assert (balances["checked"].entered, balances["checked"].ok, balances["checked"].dead) == (9, 9, 0)
    assert all(balance.adds_up for balance in balances.values())


async def test_replaying_twice_puts_nothing_back_twice(broker: Broker) -> None:
    plan = numbers(10, check=is_even)
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    assert await inspector.replay() == {"checked": 5}
    assert await inspector.replay() == {}
    assert (await inspector.snapshot()).outstanding == 5


async def test_two_people_replaying_at_once_put_each_letter_back_once(dialer: Dialer, broker: Broker) -> None:
    plan = numbers(450, check=lambda n: "bad")
    await work_off(plan, broker)
    other = Broker(dialer, broker.keys)

    counts = await asyncio.gather(Inspector(plan, broker).replay(), Inspector(plan, other).replay())

    assert sum(count["checked"] for count in counts) == 450
    assert (await Inspector(plan, broker).snapshot()).outstanding == 450
    await other.close()


async def test_a_replayed_message_keeps_its_id_and_has_all_its_attempts_again(broker: Broker) -> None:
    calls: Counter[int] = Counter()

    def fails(n: int) -> str:
        calls[n] += 1
        return "again"

    plan = numbers(1, check=fails, attempts=3)
    inspector = Inspector(plan, broker)
    await work_off(plan, broker)
    (first,) = await inspector.dead_letters()

    await inspector.replay()
    await work_off(plan, broker)

    (second,) = await inspector.dead_letters()
    assert (second.message_id, second.attempts, calls[0]) == (first.message_id, 3, 6)
    assert second.id != first.id


async def test_only_what_is_chosen_is_replayed(broker: Broker) -> None:
    plan = numbers(9, check=lambda n: ("one", "two", "")[n % 3], keep=lambda n: "late")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)
    (chosen, *_) = await inspector.dead_letters(error="*one")

    assert await inspector.replay(ids=[chosen.message_id]) == {"checked": 1}
    assert await inspector.replay("checked", error="*two") == {"checked": 3}
    assert await inspector.replay("kept", error="*two") == {}

    left = Counter(letter.line for letter in await inspector.dead_letters())
    assert left == {"ValueError: one": 2, "Reject: late": 3}


async def test_a_dry_run_counts_and_changes_nothing(broker: Broker) -> None:
    plan = numbers(10, check=is_even, keep=lambda n: "late")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)
    before = await inspector.dead_letters()

    assert await inspector.replay(dry_run=True) == {"checked": 5, "kept": 5}

    assert await inspector.dead_letters() == before
    assert (await inspector.snapshot()).outstanding == 0


async def test_a_letter_from_an_edge_that_is_gone_enters_its_stage_by_the_inlet(broker: Broker) -> None:
    await work_off(numbers(3, keep=lambda n: "late"), broker)

    @source
    def others() -> Iterator[int]:
        yield from ()

    @stage
    async def kept(number: int) -> None: ...

    rewired = Pipeline("numbers", others >> kept).plan
    inspector = Inspector(rewired, broker)

    assert await inspector.replay() == {"kept": 3}

    assert (await inspector.snapshot()).edges[">kept"].waiting == 3
    await work_off(rewired, broker)
    assert await inspector.dead_letters() == []


async def test_letters_that_die_again_at_once_are_not_replayed_for_ever(broker: Broker) -> None:
    plan = numbers(450, check=lambda n: "bad")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    async with worker(plan, broker), asyncio.timeout(AT_MOST_SECONDS):
        assert await inspector.replay() == {"checked": 450}


async def test_an_entry_of_another_program_is_put_back_unchanged(broker: Broker) -> None:
    plan = numbers(0)
    link = broker.link()
    stream = broker.keys.edge(">checked")
    await link.call(b"XADD", stream, b"*", b"b", b"not a number", b"colour", b"red", timeout_seconds=5)
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    assert await inspector.replay() == {"checked": 1}

    ((_, fields),) = await link.call(b"XRANGE", stream, b"-", b"+", timeout_seconds=5)
    kept = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (kept[b"b"], kept[b"colour"]) == (b"not a number", b"red")
    await link.close()
