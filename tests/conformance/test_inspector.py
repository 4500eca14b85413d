"""What the inspector promises, on every server and on the one in memory."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.errors import NotFound
from flowq.inspector import Inspector
from tests.conformance.counting import is_even, numbers, push, work_off


@pytest.fixture
async def broker(dialer: Dialer, unique_namespace: str) -> AsyncIterator[Broker]:
    broker = Broker(dialer, Keys(unique_namespace, "numbers"))
    yield broker
    await broker.close()


# State


async def test_a_pipeline_that_never_ran_is_empty_and_adds_up(broker: Broker) -> None:
    inspector = Inspector(numbers(), broker)

    balances = await inspector.balance()

    assert list(balances) == ["count", "checked", "kept"]
    assert all(balance.entered == 0 and balance.adds_up for balance in balances.values())
    assert await inspector.dead_letters() == []
    assert await inspector.groups() == []
    assert await inspector.workers() == {}


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
        await inspector.retry_dead_letters("chekced")


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
