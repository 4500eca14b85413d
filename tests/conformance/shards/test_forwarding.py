"""What lies in an outbox arrives once, in order, and is removed: whichever worker sends it, whatever was forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.shards.forwarding import Forwarder
from flowq.broker.shards.layout import WrongLayout
from flowq.broker.shards.node_links import NodeLinks
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.two_shards import THERE, Shard, crossing, two_shards
from tests.conformance.worker import OUT
from tests.eventually import eventually


@asynccontextmanager
async def forwarding(forwarder: Forwarder) -> AsyncGenerator[Forwarder]:
    run = asyncio.create_task(forwarder.run())
    try:
        yield forwarder
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        await forwarder.close()


@pytest.fixture
async def shards(make_shards: MakeShards) -> tuple[Shard, Shard]:
    return await make_shards()


@pytest.fixture
def source(shards: tuple[Shard, Shard]) -> Shard:
    return shards[0]


@pytest.fixture
def target(shards: tuple[Shard, Shard]) -> Shard:
    return shards[1]


async def send(source: Shard, *bodies: bytes, to: Forwarder | None = None) -> None:
    """Put messages into the outbox of a shard, one entry each. Without a forwarder, as a worker that dies then."""
    for body in bodies:
        await source.publishing.publish(THERE, [crossing(body)])
    if to is not None:
        to.note(source.sent)
    source.sent.clear()


async def n_kept(source: Shard) -> int:
    n: int = await source.broker.answer(b"XLEN", source.keys.outbox_of("1"))
    return n


BODIES = [b"%d" % n for n in range(30)]


async def test_what_was_noted_arrives_once_in_order_and_is_removed(source: Shard, target: Shard) -> None:
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await send(source, *BODIES, to=forwarder)
        await forwarder.flush_until_certain()

        assert await target.bodies() == BODIES
        assert await n_kept(source) == 0
        assert forwarder.in_transit == 0
        assert forwarder.outstanding(1, OUT) == len(BODIES)


async def test_what_a_dead_worker_has_left_is_found(source: Shard, target: Shard) -> None:
    await send(source, *BODIES)

    async with forwarding(Forwarder(source.broker)) as forwarder:
        await forwarder.flush_until_certain()

        assert await target.bodies() == BODIES
        assert await n_kept(source) == 0


async def test_what_is_left_while_it_runs_is_found_as_well(source: Shard, target: Shard) -> None:
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await forwarder.flush_until_certain()
        await send(source, *BODIES)
        await eventually(lambda: _arrived(target, len(BODIES)))

        assert await target.bodies() == BODIES


async def _arrived(target: Shard, n: int) -> bool:
    return len(await target.bodies()) >= n


async def test_two_forwarders_that_each_know_half_of_it_send_everything_once(source: Shard, target: Shard) -> None:
    async with forwarding(Forwarder(source.broker)) as one, forwarding(Forwarder(source.broker)) as other:
        for n, body in enumerate(BODIES):
            await send(source, body, to=(one, other)[n % 2])
        await one.flush_until_certain()
        await other.flush_until_certain()

        assert await target.bodies() == BODIES
        assert await n_kept(source) == 0


async def test_more_than_one_call_carries_arrives_in_order(source: Shard, target: Shard) -> None:
    bodies = [b"%d" % n for n in range(500)]
    await send(source, *bodies)

    async with forwarding(Forwarder(source.broker)) as forwarder:
        await forwarder.flush_until_certain()

        assert await target.bodies() == bodies


async def test_what_the_target_forgot_after_it_was_removed_is_counted_and_the_rest_arrives(
    source: Shard, target: Shard
) -> None:
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await source.publishing.publish(THERE, [crossing(b"first"), crossing(b"second")])
        await send(source, b"third", to=forwarder)
        await forwarder.flush_until_certain()
        await target.broker.answer(b"DEL", target.keys.inbox)
        await send(source, b"fourth", b"fifth", to=forwarder)
        await eventually(lambda: _arrived(target, 5))

        assert (await target.bodies())[3:] == [b"fourth", b"fifth"]
        assert forwarder.lost == {1: 3}
        assert (await target.counters())["lost:0"] == 3


async def test_a_gap_with_nothing_behind_it_is_counted_too(source: Shard, target: Shard) -> None:
    await send(source, b"first", b"second")
    await source.broker.answer(b"DEL", source.keys.outbox_of("1"))

    async with forwarding(Forwarder(source.broker)) as forwarder:
        await eventually(lambda: bool(forwarder.lost))

        assert forwarder.lost == {1: 2}
        assert await target.bodies() == []


async def test_what_the_target_forgot_before_it_was_removed_is_sent_again(source: Shard, target: Shard) -> None:
    """The inbox is as it was before the first entry, and so is the edge: as after a failover."""
    await send(source, *BODIES)
    entries = await source.broker.answer(b"XRANGE", source.keys.outbox_of("1"), b"-", b"+")
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await forwarder.flush_until_certain()
    await target.broker.answer(b"DEL", target.keys.inbox, target.keys.edge(OUT))
    for entry_id, fields in entries:  # they were not certain
        await source.broker.answer(b"XADD", f"{source.keys.outbox_of('1')}:copy", entry_id, *fields)
    await source.broker.answer(b"RENAME", f"{source.keys.outbox_of('1')}:copy", source.keys.outbox_of("1"))

    async with forwarding(Forwarder(source.broker)) as forwarder:
        await forwarder.flush_until_certain()

        assert await target.bodies() == BODIES
        assert forwarder.lost == {}


async def test_shards_that_are_moved_end_it(source: Shard, target: Shard) -> None:
    await target.broker.answer(b"HSET", target.keys.heads, b"layout", 4)
    await send(source, b"1")
    forwarder = Forwarder(source.broker)

    with pytest.raises(WrongLayout):
        await forwarder.run()

    await forwarder.close()
    assert await target.bodies() == []


async def test_several_forwarders_share_one_connection_to_a_node(shards: tuple[Shard, Shard]) -> None:
    links = NodeLinks(shards[0].broker.shards)
    async with AsyncExitStack() as stack:
        for shard in shards:
            forwarder = await stack.enter_async_context(forwarding(Forwarder(shard.broker, links=links)))
            await forwarder.flush_until_certain()
        assert await links.to(0) is await links.to(1)
    await links.close()


async def test_a_forwarder_that_is_cancelled_leaves_the_connection_to_the_others(
    real_dialer: Dialer, shards: tuple[Shard, Shard]
) -> None:
    links = NodeLinks([shard.broker for shard in shards])
    link = await links.to(1)
    waiting = asyncio.create_task(link.call(b"BLPOP", b"nothing", 0.2, timeout_seconds=60))
    await asyncio.sleep(0)  # so that it is sent first
    behind = asyncio.create_task(link.call(b"PING", timeout_seconds=60))
    await asyncio.sleep(0)  # so that it waits for its turn
    waiting.cancel()

    assert await behind == b"PONG"
    assert link.is_usable
    await links.close()


async def test_what_a_cancelled_forwarder_no_longer_hears_is_not_logged_as_an_error(
    real_dialer: Dialer, shards: tuple[Shard, Shard]
) -> None:
    logged = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    links = NodeLinks([shard.broker for shard in shards])
    link = await links.to(1)
    waiting = asyncio.create_task(link.call(b"BLPOP", b"nothing", 3, timeout_seconds=60))
    before = asyncio.all_tasks()
    await asyncio.sleep(0)  # so that it is sent
    exchanges = asyncio.all_tasks() - before
    waiting.cancel()
    await asyncio.wait([waiting])

    await links.close()
    await asyncio.wait(exchanges)
    exchanges.clear()
    gc.collect()

    assert logged == []


async def test_back_pressure_is_told_by_address(source: Shard) -> None:
    told: dict[str, int] = {}
    async with forwarding(Forwarder(source.broker, on_outstanding=told.update)) as forwarder:
        await send(source, b"1", b"2", to=forwarder)
        await forwarder.flush_until_certain()

    assert told == {THERE: 2}


async def test_an_idle_forwarder_asks_at_most_ten_commands_a_second(real_dialer: Dialer, keys: Keys) -> None:
    source, target = await two_shards(real_dialer, keys)
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await send(source, *BODIES, to=forwarder)
        await forwarder.flush_until_certain()
        before, loop = await _n_commands(source), asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(3.0)  # the period that is measured
        n_commands, seconds = await _n_commands(source) - before, loop.time() - began

    await source.close()
    await target.close()
    assert n_commands / seconds < 10


async def _n_commands(shard: Shard) -> int:
    found = await shard.broker.answer(b"INFO", b"stats")
    return int(found.partition(b"total_commands_processed:")[2].split()[0])


async def test_a_large_call_is_several_entries_that_follow_each_other(source: Shard, target: Shard) -> None:
    bodies = [b"%d" % n + b"x" * 300_000 for n in range(5)]
    async with forwarding(Forwarder(source.broker)) as forwarder:
        await send(source, b"before", to=forwarder)
        await source.publishing.publish(THERE, [crossing(body) for body in bodies])
        first, second, third = source.sent
        assert (first.id, second.id) == (second.before, third.before)
        assert [entry.total for entry in source.sent] == [3, 5, 6]
        forwarder.note(source.sent)
        await forwarder.flush_until_certain()

        assert await target.bodies() == [b"before", *bodies]
        assert await source.fields(source.keys.heads) | {b"1": b"%b 6" % third.id} == await source.fields(
            source.keys.heads
        )
