"""Reading: each message goes to one reader, and nothing is lost with a reply."""

from __future__ import annotations

import asyncio

import pytest

from flowq.broker.client.connection import UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.reader import Reader
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.errors import BrokerRefused, BrokerUnavailable
from tests.conformance.conftest import Command, SignOn
from tests.conformance.worker import EDGES, IN, OUT, Worker, done
from tests.eventually import eventually


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


async def test_each_message_goes_to_one_of_two_readers(worker: Worker, other: Worker) -> None:
    await worker.publish(*[b"%d" % n for n in range(10)])

    mine, theirs = await worker.read(4), await other.read()

    assert (len(mine), len(theirs)) == (4, 6)
    assert sorted(map(int, bodies(mine + theirs))) == list(range(10))


async def test_a_delivery_says_where_it_comes_from_and_whose_it_is(worker: Worker) -> None:
    delivery = await worker.given_one()

    assert delivery.arrival == (IN, worker.name, worker.broker.epoch)
    assert delivery.header.attempt == 1
    assert delivery.foreign is None


async def test_all_edges_of_a_stage_are_read_at_once(sign_on: SignOn) -> None:
    worker = await sign_on("reader of all", edges=tuple(EDGES))
    await worker.publish(b"in")
    await worker.publish(b"out", edge=OUT)

    assert sorted((delivery.edge, delivery.body) for delivery in await worker.read()) == [(IN, b"in"), (OUT, b"out")]


async def test_an_empty_edge_gives_nothing(worker: Worker) -> None:
    assert await worker.read() == []


async def test_what_was_published_before_the_group_existed_is_read(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"DEL", keys.edge(IN))
    await worker.publish(b"early")

    assert await worker.read() == []
    assert bodies(await worker.read()) == [b"early"]


async def test_what_a_lost_reply_carried_is_found_again(worker: Worker, other: Worker) -> None:
    await worker.publish(b"lost", b"lost as well")
    await worker.read()

    assert await worker.read() == []
    assert bodies(await worker.reader.own_pending(worker.name)) == [b"lost", b"lost as well"]
    assert await other.reader.own_pending(other.name) == []


async def test_what_is_settled_is_pending_no_longer(worker: Worker) -> None:
    await worker.publish(b"0", b"1")
    first, _ = await worker.read()

    await worker.settle(done(first))

    assert bodies(await worker.reader.own_pending(worker.name)) == [b"1"]


async def test_a_message_deleted_by_hand_while_it_was_pending_is_found_without_its_body_and_counted_once(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"XDEL", keys.edge(IN), delivery.entry_id)

    (found,) = await worker.reader.own_pending(worker.name)

    assert (found.entry_id, found.body) == (delivery.entry_id, b"")
    await worker.settle(done(found))
    balance = await worker.balance()
    assert (balance.entered, balance.ok) == (1, 1)


@pytest.mark.parametrize("gone", ["group", "stream"])
async def test_a_reader_makes_a_group_that_is_gone_and_reads_from_the_start(
    gone: str, worker: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(b"waiting")
    if gone == "group":
        await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    else:
        await redis(b"DEL", keys.edge(IN))
    await worker.publish(b"new")

    assert await worker.read() == []
    assert bodies(await worker.read()) == ([b"waiting", b"new"] if gone == "group" else [b"new"])


async def test_a_group_that_is_gone_gives_what_was_running_once_more(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    delivery = await worker.given_one()
    await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    assert await other.read() == []

    again = await other.read_one()

    assert again.message_id == delivery.message_id
    assert (await other.settle(done(again))).won == 1
    assert (await worker.settle(done(delivery))).won == 0
    assert (await worker.balance()).ok == 1


async def test_a_blocked_read_ends_when_its_stream_is_deleted(worker: Worker, keys: Keys, redis: Command) -> None:
    reading = asyncio.create_task(worker.reader.read(worker.name, count=1, block_ms=1000))
    await asyncio.sleep(0.02)  # most often it blocks by then; if not, the claim holds as well
    await redis(b"DEL", keys.edge(IN))

    assert await reading == []

    await worker.publish(b"new")
    await eventually(lambda: worker.read())


async def test_a_blocked_read_is_ended_without_being_cancelled(real_dialer: UrlDialer, keys: Keys) -> None:
    broker = Broker(real_dialer, keys)
    await Edges(broker).ensure_groups([IN])
    reader = Reader(broker, [IN])
    await reader.read("w", count=1, block_ms=1)
    epoch = broker.epoch
    reading = asyncio.create_task(reader.read("w", count=1, block_ms=10_000))

    async def ended() -> bool:
        await reader.unblock()
        return reading.done()

    await eventually(ended)

    assert await reading == []
    assert broker.epoch == epoch, "a connection was lost over it"
    await reader.close()
    await broker.close()


async def test_ensuring_groups_that_exist_keeps_what_is_pending(worker: Worker) -> None:
    await worker.given_one(b"pending")

    await Edges(worker.broker).ensure_groups(EDGES)

    assert bodies(await worker.reader.own_pending(worker.name)) == [b"pending"]


async def test_an_edge_of_the_wrong_type_is_refused_not_retried(worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"DEL", keys.edge(IN))
    await redis(b"SET", keys.edge(IN), b"somebody else's")

    with pytest.raises(BrokerRefused):
        await Edges(worker.broker).ensure_groups([IN])
    if not worker.broker.dialer.is_private:  # the one in memory answers such a read with a bug of its own
        with pytest.raises(BrokerRefused):
            await worker.read()


@pytest.mark.parametrize(
    "fields",
    [
        {b"b": b"1"},
        {b"b": b"1", b"h": b"not a header"},
        {b"h": b"\xff", b"b": b"1"},
        {b"h": b"a b c not-a-number", b"b": b"1"},
        {b"payload": b"1"},
        {b"": b""},
    ],
    ids=repr,
)
async def test_no_entry_of_any_other_program_stops_a_reader(
    fields: dict[bytes, bytes], worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.edge(IN), b"5-1", *[part for pair in fields.items() for part in pair])
    await worker.publish(b"ours")

    foreign, ours = await worker.read()

    assert foreign.message_id == ">parse:5-1"
    assert foreign.header.attempt == 1
    assert ours.body == b"ours"


@pytest.mark.parametrize("word", [b"a\tb", b"a\nb", b"a\rb"])
async def test_a_header_with_a_break_in_it_is_not_ours(word: bytes, worker: Worker, keys: Keys, redis: Command) -> None:
    await redis(b"XADD", keys.edge(IN), b"5-1", b"h", word + b" r p 0", b"b", b"1")

    delivery = await worker.read_one()

    assert delivery.message_id == ">parse:5-1"


async def test_reading_from_a_server_that_is_not_there_says_so(unique_namespace: str) -> None:
    broker = Broker(UrlDialer("unix:///nowhere/redis.sock"), Keys(unique_namespace, "lab"))

    with pytest.raises(BrokerUnavailable):
        await Reader(broker, [IN]).read("w", count=1, block_ms=10)
    assert broker.epoch > 0


async def test_a_database_that_does_not_exist_is_refused(redis_url: str, unique_namespace: str) -> None:
    broker = Broker(UrlDialer(f"{redis_url}?db=999"), Keys(unique_namespace, "lab"))

    with pytest.raises(BrokerRefused, match="DB index"):
        await broker.ping()


async def test_a_wrong_password_is_refused_and_not_shown(redis_url: str, unique_namespace: str) -> None:
    url = redis_url.replace("unix://", "unix://somebody:secret@")
    broker = Broker(UrlDialer(url), Keys(unique_namespace, "lab"))

    with pytest.raises(BrokerRefused) as refusal:
        await broker.ping()
    assert "secret" not in str(refusal.value)
