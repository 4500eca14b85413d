"""Dead letters that are put back run again, once, and the balance adds up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from flowq import Pipeline, source, stage
from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.inspector import Inspector
from tests.conformance.counting import is_even, numbers, work_off, worker


@pytest.fixture
async def broker(dialer: Dialer, unique_namespace: str) -> AsyncIterator[Broker]:
    broker = Broker(dialer, Keys(unique_namespace, "numbers"))
    yield broker
    await broker.close()


async def test_what_is_replayed_runs_again_and_the_balance_adds_up_at_every_step(broker: Broker) -> None:
    await work_off(numbers(10, check=is_even), broker)
    fixed = numbers(10)
    inspector = Inspector(fixed, broker)

    assert await inspector.retry_dead_letters() == {"checked": 5}

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

    assert await inspector.retry_dead_letters() == {"checked": 5}

    await work_off(fixed, broker)
    balances = await inspector.balance()
    assert (balances["checked"].entered, balances["checked"].ok, balances["checked"].dead) == (9, 9, 0)
    assert all(balance.adds_up for balance in balances.values())


async def test_replaying_twice_puts_nothing_back_twice(broker: Broker) -> None:
    plan = numbers(10, check=is_even)
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    assert await inspector.retry_dead_letters() == {"checked": 5}
    assert await inspector.retry_dead_letters() == {}
    assert (await inspector.snapshot()).outstanding == 5


async def test_two_people_replaying_at_once_put_each_letter_back_once(dialer: Dialer, broker: Broker) -> None:
    plan = numbers(450, check=lambda n: "bad")
    await work_off(plan, broker)
    other = Broker(dialer, broker.keys)

    counts = await asyncio.gather(
        Inspector(plan, broker).retry_dead_letters(), Inspector(plan, other).retry_dead_letters()
    )

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

    await inspector.retry_dead_letters()
    await work_off(plan, broker)

    (second,) = await inspector.dead_letters()
    assert (second.message_id, second.attempts, calls[0]) == (first.message_id, 3, 6)
    assert second.id != first.id


async def test_only_what_is_chosen_is_replayed(broker: Broker) -> None:
    plan = numbers(9, check=lambda n: ("one", "two", "")[n % 3], keep=lambda n: "late")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)
    (chosen, *_) = await inspector.dead_letters(error="*one")

    assert await inspector.retry_dead_letters(ids=[chosen.message_id]) == {"checked": 1}
    assert await inspector.retry_dead_letters("checked", error="*two") == {"checked": 3}
    assert await inspector.retry_dead_letters("kept", error="*two") == {}

    left = Counter(letter.line for letter in await inspector.dead_letters())
    assert left == {"ValueError: one": 2, "Reject: late": 3}


async def test_a_dry_run_counts_and_changes_nothing(broker: Broker) -> None:
    plan = numbers(10, check=is_even, keep=lambda n: "late")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)
    before = await inspector.dead_letters()

    assert await inspector.retry_dead_letters(dry_run=True) == {"checked": 5, "kept": 5}

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

    assert await inspector.retry_dead_letters() == {"kept": 3}

    assert (await inspector.snapshot()).edges[">kept"].waiting == 3
    await work_off(rewired, broker)
    assert await inspector.dead_letters() == []


async def test_letters_that_die_again_at_once_are_not_replayed_for_ever(broker: Broker) -> None:
    plan = numbers(450, check=lambda n: "bad")
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    async with worker(plan, broker), asyncio.timeout(60):
        assert await inspector.retry_dead_letters() == {"checked": 450}


async def test_an_entry_of_another_program_is_put_back_unchanged(broker: Broker) -> None:
    plan = numbers(0)
    link = broker.link()
    stream = broker.keys.edge(">checked")
    await link.call(b"XADD", stream, b"*", b"b", b"not a number", b"colour", b"red", timeout_seconds=60)
    await work_off(plan, broker)
    inspector = Inspector(plan, broker)

    assert await inspector.retry_dead_letters() == {"checked": 1}

    ((_, fields),) = await link.call(b"XRANGE", stream, b"-", b"+", timeout_seconds=60)
    kept = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (kept[b"b"], kept[b"colour"]) == (b"not a number", b"red")
    await link.close()
