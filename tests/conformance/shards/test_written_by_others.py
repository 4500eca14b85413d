"""What other programs write into outboxes, heads and inboxes ends no forwarder, and costs no message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.publishing import Publishing
from flowq.broker.shards.forwarding import Forwarder
from flowq.broker.shards.outbox import Group, outbox_arguments, packets
from tests.conformance.conftest import Command
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import Shard, crossing
from tests.conformance.worker import IN, OUT, done, output

Fields = Mapping[bytes, bytes]


@asynccontextmanager
async def forwarding(source: Shard) -> AsyncGenerator[Forwarder]:
    forwarder = Forwarder(source.broker)
    run = asyncio.create_task(forwarder.run())
    try:
        flush = asyncio.create_task(forwarder.flush_until_certain())
        await asyncio.wait([run, flush], return_when=asyncio.FIRST_COMPLETED)
        assert not run.done() or run.result()
        yield forwarder
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await forwarder.close()


async def send(here: Shard, body: bytes) -> None:
    await here.settle(done(await here.worker.given_one(), crossing(body)))


BROKEN: Mapping[str, Callable[[Fields], Fields]] = {
    "no_call": lambda _: {b"c": b""},
    "no_number_of_words": lambda _: {b"w": b"x"},
    "many_words": lambda _: {b"w": b"99999999999"},
    "fewer_words": lambda good: {b"w": b"%d" % (int(good[b"w"]) - 1)},
    "no_id_before_it": lambda _: {b"p": b"nonsense"},
    "no_total": lambda _: {b"n": b"x"},
    "huge_total": lambda _: {b"n": b"9" * 30},
    "no_edge": lambda _: {b"e": b"x"},
    "edge_that_is_not_in_the_call": lambda _: {b"e": b"a>b 0 0 "},
    "no_words": lambda _: {b"c": b"garbage"},
    "length_that_no_memory_holds": lambda _: {b"c": b"*2000000000\r\n"},
    "length_with_a_zero_before_it": lambda good: {b"c": good[b"c"].replace(b"$1\r\n", b"$01\r\n")},
    "another_command_behind_the_call": lambda good: {b"c": good[b"c"] + b"*1\r\n$8\r\nFLUSHALL\r\n"},
    "digits_that_only_python_reads": lambda good: {
        b"c": good[b"c"].replace(b"$1\r\n1\r\n$1\r\n0", "$2\r\n\u0661\r\n$1\r\n0".encode())
    },
    "underscored_number": lambda good: {b"c": good[b"c"].replace(b"$1\r\n1\r\n", b"$3\r\n0_1\r\n", 1)},
    "count_without_end": lambda good: {b"c": good[b"c"].replace(b"$1\r\n0\r\n", b"$30\r\n" + b"9" * 30 + b"\r\n")},
    "edge_in_another_encoding": lambda good: {
        b"c": good[b"c"].replace(b"$16\r\nparse>store 0 0 ", b"$16\r\nparse>st\xffre 0 0 "),
        b"e": b"parse>st\\xffre 0 0 ",
    },
    "more_messages_than_words": lambda good: {b"c": good[b"c"].replace(b"$1\r\n1\r\n$1\r\n0", b"$1\r\n9\r\n$1\r\n0")},
}


@pytest.mark.parametrize("how", BROKEN)
async def test_an_entry_that_no_script_has_put_there_is_passed_over_and_named(
    how: str, make_shards: MakeShards, redis: Command, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = await make_shards()
    await send(here, b"first")
    box = here.keys.outbox_of("1")
    ((last, words),) = await redis(b"XRANGE", box, b"-", b"+")
    good = dict(zip(words[::2], words[1::2], strict=True))
    epoch, _, number = last.partition(b"-")
    by_hand = b"%s-%d" % (epoch, int(number) + 1)
    fields = {**good, b"p": last, b"n": b"2", **BROKEN[how](good)}
    await redis(b"XADD", box, by_hand, *(word for field in fields.items() for word in field))
    await here.publishing.publish(f"1/{OUT}", [crossing(b"second")])  # begins an epoch, above what was added by hand

    with caplog.at_level(logging.WARNING, "flowq.broker"):
        async with forwarding(here):
            assert await there.bodies() == [b"first", b"second"]

    assert f"XDEL {box} {by_hand.decode()}" in caplog.text


POSITIONS = [
    b"nonsense",
    b"",
    b"-1--1 -1",
    b"4503599627370496-1 1",
    b"9999999999999999-1 7",
    b"99999999999999999999999-1 7",
    b"{epoch}-99999999999999999999 3",
    b"{epoch}-1 99999999999999999999",
]


@pytest.mark.parametrize("field", [b"1", b"epoch"])
@pytest.mark.parametrize("value", [*POSITIONS, b"9999999999999998", b"-5", b"inf", b"nan"])
async def test_heads_that_another_program_has_written_cost_no_message(
    field: bytes, value: bytes, make_shards: MakeShards, redis: Command
) -> None:
    here, there = await make_shards()
    await send(here, b"first")
    epoch = await redis(b"HGET", here.keys.heads, b"epoch")
    await redis(b"HSET", here.keys.heads, field, value.replace(b"{epoch}", epoch))

    for body in (b"second", b"third"):
        await send(here, body)

    async with forwarding(here) as forwarder:
        assert await there.bodies() == [b"first", b"second", b"third"]
        assert not forwarder.lost


@pytest.mark.parametrize("value", POSITIONS)
async def test_forwarding_continues_from_a_cursor_that_another_program_has_written_and_counts_what_is_lost(
    value: bytes, make_shards: MakeShards, redis: Command
) -> None:
    here, there = await make_shards()
    await send(here, b"first")
    async with forwarding(here):
        assert await there.bodies() == [b"first"]
    epoch = await redis(b"HGET", here.keys.heads, b"epoch")
    await redis(b"HSET", there.keys.inbox, b"0", value.replace(b"{epoch}", epoch))

    await send(here, b"second")

    async with forwarding(here) as forwarder:
        assert await there.bodies() == [b"first", b"second"]
        assert forwarder.lost == {1: 1}, "what it had applied cannot be told from what it has lost"


async def test_a_delayed_message_that_is_changed_while_others_move_costs_none_of_them(
    make_shards: MakeShards, redis: Command
) -> None:
    here, _ = await make_shards()
    await Publishing(here.broker).publish(IN, [output(IN, b"1"), output(IN, b"2")], delay_ms=60_000)
    _, parked, bodies = here.keys.of_edge(IN)
    moves, stays = await redis(b"ZRANGE", parked, 0, -1)
    await redis(b"HSET", bodies, stays, b"without a header")
    sent = packets([Group(IN, None, (), [output(IN, b"1", delay_ms=60_000)], is_moved=True)], [1])
    more_names, more = outbox_arguments(here.keys, sent, layout=2, nonce=5, floor=0)
    names = [here.keys.workers, here.keys.stats, *here.keys.of_edge(IN), *more_names]

    answer = await here.broker.script(
        scripts.GIVE, names, GROUP, IN, 0, 1, 0, 1, 0, moves, stays, b"other - - 0 k=YQ", *more
    )

    assert answer == [-1]
    assert await redis(b"ZRANGE", parked, 0, -1) == [moves, stays]
    assert await here.outbox(1) == []
