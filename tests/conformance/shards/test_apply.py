"""Entries of an outbox are applied in the other shard once each, in order, however often they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flowq.broker.shards.outbox import Entry, Group, entries, packets
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from flowq.errors import BrokerRefused, BrokerUnavailable
from tests.conformance.conftest import Command
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import Shard, apply, crossing
from tests.conformance.worker import IN, OUT, done, output

ALL_PLACES = (">store", OUT)


def entry(
    own_id: str, before: str, total: int, *outputs: Output, memory: DedupMemory | None = None, edge: str = OUT
) -> Entry:
    """An entry as a script of shard 0 would have put it."""
    now = [each for each in outputs if not each.delay_ms]
    later = [each for each in outputs if each.delay_ms]
    (packet,) = packets([Group(edge, memory, now, later)], [1])
    (made,) = entries([packet], [f"{own_id} {before} {total}".encode()])
    return made


def chain(n: int, *, epoch: int = 5) -> list[Entry]:
    """Entries that follow each other, each with one message."""
    return [
        entry(f"{epoch}-{i}", f"{epoch}-{i - 1}" if i > 1 else "0-0", i, output(OUT, b"%d" % i))
        for i in range(1, n + 1)
    ]


@pytest.fixture
async def there(make_shards: MakeShards) -> Shard:
    """The second of two shards."""
    _, shard = await make_shards()
    return shard


# Once, in order


async def test_what_was_put_into_an_outbox_arrives_in_the_order_in_which_it_was_put(make_shards: MakeShards) -> None:
    here, there = await make_shards()
    for n in (b"1", b"2"):
        await here.settle(done(await here.worker.given_one(), crossing(n), crossing(n + b"'")))

    assert await apply(there, here.sent) == [1, here.sent[1].id, 2, 4]

    assert await there.bodies() == [b"1", b"1'", b"2", b"2'"]
    assert await there.fields(there.keys.inbox) == {b"0": here.sent[1].id + b" 4"}
    assert [delivery.body for delivery in await there.worker.read()] == [b"1", b"1'", b"2", b"2'"]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (0, 1), (1, 3), (1, 4)])
async def test_what_is_sent_again_changes_nothing(first: int, last: int, there: Shard) -> None:
    sent, n = chain(4), max(last, 3)
    await apply(there, sent[:3])

    assert (await apply(there, sent[first:last]))[:3] == [1, sent[n - 1].id, n - 3]

    assert await there.bodies() == [b"1", b"2", b"3", b"4"][:n]


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_nothing_behind_a_gap_is_applied(missing: int, there: Shard) -> None:
    sent = chain(4)

    status, cursor, n_applied, _ = await apply(there, sent[:missing] + sent[missing + 1 :])

    assert (status, n_applied) == (-1, missing)
    assert cursor == (sent[missing - 1].id if missing else b"0-0")
    assert await there.bodies() == [b"1", b"2", b"3"][:missing]


async def test_a_late_call_of_an_earlier_epoch_changes_nothing(there: Shard) -> None:
    await apply(there, chain(1))
    await apply(there, [entry("6-1", "5-1", 2, output(OUT, b"new"))])

    assert (await apply(there, chain(3)[1:]))[:3] == [1, b"6-1", 0]

    assert await there.bodies() == [b"1", b"new"]


async def test_what_a_source_sends_again_because_it_has_forgotten_is_counted(there: Shard) -> None:
    await apply(there, chain(4))
    await apply(there, [entry("6-1", "5-2", 4, output(OUT, b"3"), output(OUT, b"3'"))])

    assert (await there.counters())["again:0"] == 2
    assert await there.fields(there.keys.inbox) == {b"0": b"6-1 4"}


async def test_each_source_has_a_cursor_of_its_own(there: Shard) -> None:
    await apply(there, chain(2))
    await apply(there, chain(1), source=7)

    assert await there.fields(there.keys.inbox) == {b"0": b"5-2 2", b"7": b"5-1 1"}


async def test_with_another_layout_nothing_is_applied(there: Shard) -> None:
    assert await apply(there, chain(1), layout=3) == [-2]

    assert (await there.bodies(), await there.fields(there.keys.inbox)) == ([], {})


async def test_an_entry_that_was_cut_off_is_refused_with_all_others(there: Shard) -> None:
    first, second = chain(2)
    cut = replace(second, call=second.call[: second.call.rindex(b"$")], n_words=second.n_words - 1)

    with pytest.raises(BrokerUnavailable) as refused:
        await apply(there, [first, cut])

    assert "FLOWQ_CUT_OFF entry 5-2 of the outbox of shard 0" in refused.value.detail
    assert (await there.bodies(), await there.counters()) == ([], {})


async def test_a_cursor_that_is_nonsense_counts_as_none(there: Shard, redis: Command) -> None:
    await redis(b"HSET", there.keys.inbox, b"0", b"nonsense")

    assert (await apply(there, chain(1)))[:3] == [1, b"5-1", 1]


# What a message is subject to in its shard


async def test_duplicates_are_found_where_a_message_arrives(there: Shard) -> None:
    memory = DedupMemory()
    first = entry(
        "5-1",
        "0-0",
        3,
        *(crossing(n, dedup=value) for n, value in ((b"1", "a"), (b"2", "b"), (b"3", "a"))),
        memory=memory,
    )
    second = entry("5-2", "5-1", 5, crossing(b"4", dedup="b"), crossing(b"5", dedup="c"), memory=memory)

    await apply(there, [first, second])

    assert await there.bodies() == [b"1", b"2", b"5"]
    assert await there.counters() == {f"in:{OUT}": 3, f"duplicates:{OUT}": 2}


@pytest.mark.parametrize("ttl_ms", [None, 60_000])
async def test_a_stage_remembers_what_came_from_here_and_from_elsewhere_alike(
    ttl_ms: int | None, make_shards: MakeShards
) -> None:
    memory = DedupMemory(ttl_ms)
    _, there = await make_shards(memory={OUT: memory})
    await there.publishing.publish(OUT, [output(OUT, b"own", dedup="a")], dedup=memory)
    await apply(there, [entry("5-1", "0-0", 2, crossing(b"1", dedup="a"), crossing(b"2", dedup="b"), memory=memory)])
    await there.publishing.publish(OUT, [output(OUT, b"late", dedup="b")], dedup=memory)

    assert await there.bodies() == [b"own", b"2"]


async def test_messages_of_many_entries_are_in_order_on_each_of_their_edges(there: Shard) -> None:
    memory = DedupMemory()
    sent = [
        entry("5-1", "0-0", 2, crossing(b"1", dedup="a"), crossing(b"2", dedup="b"), memory=memory),
        entry("5-2", "5-1", 4, output(">store", b"1"), output(">store", b"2"), edge=">store"),
        entry("5-3", "5-2", 6, crossing(b"3", dedup="b"), crossing(b"4", dedup="c"), memory=memory),
        entry("5-4", "5-3", 7, output(">store", b"3"), edge=">store"),
        entry("5-5", "5-4", 8, crossing(b"5", dedup="d"), memory=memory),
    ]

    assert await apply(there, sent) == [1, b"5-5", 5, 4, 3]

    assert await there.bodies() == [b"1", b"2", b"4", b"5"]
    assert await there.bodies(">store") == [b"1", b"2", b"3"]
    assert await there.counters() == {f"in:{OUT}": 4, f"duplicates:{OUT}": 1, "in:>store": 3}


async def test_a_value_that_came_delayed_makes_a_later_one_the_duplicate(there: Shard) -> None:
    memory = DedupMemory()
    sent = [
        entry("5-1", "0-0", 1, crossing(b"1", dedup="a"), memory=memory),
        entry("5-2", "5-1", 2, crossing(b"delayed", dedup="b", delay_ms=60_000), memory=memory),
        entry("5-3", "5-2", 4, crossing(b"2", dedup="b"), crossing(b"3", dedup="c"), memory=memory),
    ]

    await apply(there, sent)

    assert await there.bodies() == [b"1", b"3"]
    assert len(await there.fields(there.keys.delayed_bodies(OUT))) == 1


async def test_a_delayed_message_is_delayed_where_it_arrives(there: Shard) -> None:
    await apply(there, [entry("5-1", "0-0", 2, crossing(b"now"), crossing(b"later", delay_ms=60_000))])

    assert await there.bodies() == [b"now"]
    assert [value.split(b"\n")[1] for value in (await there.fields(there.keys.delayed_bodies(OUT))).values()] == [
        b"later"
    ]
    assert (await there.counters())[f"in:{OUT}"] == 2


async def test_the_last_message_of_a_value_replaces_the_one_that_waits_for_its_stage(there: Shard) -> None:
    memory = DedupMemory(60_000, ALL_PLACES)
    first = entry("5-1", "0-0", 2, crossing(b"old", dedup="a"), crossing(b"other", dedup="b"), memory=memory)
    second = entry("5-2", "5-1", 3, output(">store", b"new", dedup="a"), memory=memory, edge=">store")

    assert await apply(there, [first, second]) == [1, b"5-2", 2, 1, 1]

    assert (await there.bodies(), await there.bodies(">store")) == ([b"other"], [b"new"])
    assert await there.counters() == {f"in:{OUT}": 1, "in:>store": 1, f"duplicates:{OUT}": 1}


async def test_the_large_body_of_a_duplicate_is_released(there: Shard, redis: Command) -> None:
    memory = DedupMemory()
    claimed = [output(OUT, n, dedup="a") for n in (b"first", b"second")]
    claimed = [each._replace(header=each.header + b" e=file") for each in claimed]

    await apply(
        there, [entry("5-1", "0-0", 1, claimed[0], memory=memory), entry("5-2", "5-1", 2, claimed[1], memory=memory)]
    )

    ((_, fields),) = await redis(b"XRANGE", there.keys.released, b"-", b"+")
    assert fields == [b"r", b"second\n"]


async def test_values_that_were_left_out_at_the_source_count_as_duplicates(make_shards: MakeShards) -> None:
    memory = DedupMemory()
    here, there = await make_shards(memory={OUT: memory})
    outputs = [crossing(b"1", dedup="a"), crossing(b"2", dedup="a")]
    await here.settle(done(await here.worker.given_one(), *outputs))

    await apply(there, here.sent)

    assert (await here.counters())["out:parse"] == 2
    assert await there.counters() == {f"in:{OUT}": 1, f"duplicates:{OUT}": 1}


async def test_messages_for_several_edges_of_one_shard_share_an_entry(make_shards: MakeShards) -> None:
    here, there = await make_shards()
    outputs = [crossing(b"1"), output(IN, b"2")._replace(edge=f"1/{IN}")]
    await here.settle(done(await here.worker.given_one(), *outputs))

    assert await apply(there, here.sent) == [1, here.sent[0].id, 1, 1, 1]

    assert (await there.bodies(OUT), await there.bodies(IN)) == ([b"1"], [b"2"])


# Trouble


@pytest.mark.parametrize("name", ["inbox", "heads", "stats", "released", "edge"])
async def test_a_key_of_another_type_is_found_before_anything_is_applied(
    name: str, there: Shard, redis: Command
) -> None:
    key = there.keys.edge(OUT) if name == "edge" else getattr(there.keys, name)
    await redis(b"DEL", key)
    await redis(b"SET", key, b"x")

    with pytest.raises(BrokerRefused):
        await apply(there, chain(1))

    assert await redis(b"GET", key) == b"x"
    assert name == "inbox" or not await there.fields(there.keys.inbox)
    assert name == "edge" or not await there.bodies()


@pytest.mark.parametrize(
    "memory", [None, DedupMemory(), DedupMemory(60_000, ALL_PLACES)], ids=["none", "first", "last"]
)
async def test_many_entries_at_once_are_as_good_as_one_by_one(
    memory: DedupMemory | None, make_shards: MakeShards
) -> None:
    _, there = await make_shards()

    def some() -> Sequence[Entry]:
        values = [str(n * 7 % 11) for n in range(60)]
        messages = [crossing(b"%d" % n, dedup=value if memory else "") for n, value in enumerate(values)]
        return [
            entry(f"5-{n + 1}", f"5-{n}" if n else "0-0", 3 * (n + 1), *messages[3 * n : 3 * n + 3], memory=memory)
            for n in range(20)
        ]

    at_once, one_by_one = some(), some()
    await apply(there, at_once)
    for each in one_by_one:
        await apply(there, [each], source=3)

    counters = await there.counters()
    assert counters[f"in:{OUT}"] + counters.get(f"duplicates:{OUT}", 0) == 120
    assert len(await there.bodies()) == (120 if memory is None else 11)
