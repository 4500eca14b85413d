"""Publishing: all of a call or nothing, and once."""

from __future__ import annotations

import pytest

from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.publishing import PUBLISH_WINDOW_MS, CursorMove, Parcel, Publishing, Refused
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.policy import DedupMemory
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, OUT, STAGES, Worker, output


async def test_a_used_token_publishes_nothing_and_answers_the_same(worker: Worker, keys: Keys, redis: Command) -> None:
    messages = [output(IN, b"0"), output(IN, b"1")]

    first = await Publishing(worker.broker).publish(IN, messages, token="once")
    again = await Publishing(worker.broker).publish(IN, messages, token="once")

    assert first == again
    assert await redis(b"XLEN", keys.edge(IN)) == 2
    assert (await worker.balance()).entered == 2


async def test_a_token_older_than_an_hour_does_not_count_although_it_is_still_there(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    hour_ago_ms = await worker.broker.now_ms() - PUBLISH_WINDOW_MS
    await redis(b"ZADD", keys.published, hour_ago_ms - 1, "daily", hour_ago_ms + 60_000, "hourly")

    for token in ("daily", "daily", "hourly"):
        await Publishing(worker.broker).publish(IN, [output(IN, token.encode())], token=token)

    assert await redis(b"XLEN", keys.edge(IN)) == 1


async def test_calls_without_a_token_are_all_published(worker: Worker) -> None:
    message = output(IN, b"0")

    await Publishing(worker.broker).publish(IN, [message])
    await Publishing(worker.broker).publish(IN, [message])

    assert (await worker.balance()).waiting == 2


async def test_a_full_edge_refuses_the_whole_call(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")] * 3, maxsize=3)

    refused = await Publishing(worker.broker).publish(IN, [output(IN, b"y")] * 2, maxsize=3, token="later")

    assert (refused.appended, refused.full_at) == (0, 3)
    assert (await worker.balance()).waiting == 3


async def test_a_refused_call_may_be_made_again_with_its_token(worker: Worker, keys: Keys, redis: Command) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"x")], maxsize=1)
    message = [output(IN, b"y", dedup="y")]
    assert (
        await Publishing(worker.broker).publish(IN, message, maxsize=1, token="t", dedup=DedupMemory())
    ).full_at == 1

    await redis(b"XTRIM", keys.edge(IN), b"MAXLEN", 0)

    assert (
        await Publishing(worker.broker).publish(IN, message, maxsize=1, token="t", dedup=DedupMemory())
    ).appended == 1


async def test_delayed_and_running_messages_fill_an_edge_as_well(worker: Worker) -> None:
    await worker.given_one()
    await Publishing(worker.broker).publish(IN, [output(IN, b"later")], delay_ms=60_000)

    assert (await Publishing(worker.broker).publish(IN, [output(IN, b"y")], maxsize=2)).full_at == 2


async def test_a_delayed_message_waits_until_it_is_due(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b'{"n":1}')], delay_ms=60_000)

    balance = await worker.balance()
    assert (balance.entered, balance.waiting, balance.delayed) == (1, 0, 1)
    assert await worker.read() == []


async def test_a_message_delayed_already_is_a_duplicate_and_keeps_its_time(worker: Worker) -> None:
    message = output(IN, b"x")

    await Publishing(worker.broker).publish(IN, [message], delay_ms=0)
    first = await Publishing(worker.broker).publish(IN, [message], delay_ms=50_000)
    again = await Publishing(worker.broker).publish(IN, [message], delay_ms=90_000)

    assert ((first.appended, first.duplicates), (again.appended, again.duplicates)) == ((1, 0), (0, 1))
    assert (await worker.balance()).delayed == 1
    _, next_ms = await Edges(worker.broker).promote([IN])
    assert next_ms is not None
    assert next_ms <= 50_000


async def test_a_message_seen_before_is_counted_instead_of_stored(worker: Worker) -> None:
    messages = [output(IN, b"a", dedup="a"), output(IN, b"a", dedup="a"), output(IN, b"b", dedup="b")]

    published = await Publishing(worker.broker).publish(IN, messages, dedup=DedupMemory())
    again = await Publishing(worker.broker).publish(IN, messages[:1], dedup=DedupMemory())

    assert (published.appended, published.duplicates) == (2, 1)
    assert (again.appended, again.duplicates) == (0, 1)
    balance = await worker.balance()
    assert (balance.entered, balance.duplicates) == (2, 2)


async def test_what_a_source_gives_is_counted_as_its_output(worker: Worker) -> None:
    await Publishing(worker.broker).publish(IN, [output(IN, b"a")] * 3, source="seeds")

    assert (await worker.snapshot()).counters["out:seeds"] == 3


@pytest.mark.parametrize("body", [b"", b"\x00\xff\n\r\n", b"x" * 2_000_000, "žluť".encode()])
async def test_any_bytes_arrive_as_they_were(body: bytes, worker: Worker) -> None:
    message = output(IN, body)
    await Publishing(worker.broker).publish(IN, [message])
    await Publishing(worker.broker).publish(IN, [message], delay_ms=1)

    delivery = await worker.read_one()
    moved = 0
    while not moved:
        moved, _ = await Edges(worker.broker).promote([IN])
    delayed = await worker.read_one()

    assert (delivery.body, delayed.body) == (body, body)
    assert delivery.header_bytes == delayed.header_bytes == message.header


@pytest.mark.parametrize("wrong", ["stats", "published", "edge", "seen", "delayed", "parked"])
async def test_a_key_of_the_wrong_type_refuses_the_call(wrong: str, worker: Worker, keys: Keys, redis: Command) -> None:
    key = {
        "stats": keys.stats, "published": keys.published, "edge": keys.edge(OUT),
        "seen": keys.seen("store"), "delayed": keys.delayed(OUT), "parked": keys.delayed_bodies(OUT),
    }[wrong]  # fmt: skip
    await redis(b"DEL", key)
    await redis(b"SETBIT", key, 1, 1)
    before = sorted(await redis(b"KEYS", f"{keys.namespace}:*"))

    with pytest.raises(BrokerRefused, match="FLOWQ_WRONGTYPE"):
        await Publishing(worker.broker).publish(
            OUT, [output(OUT, b"x", dedup="x")], token="t", delay_ms=10, dedup=DedupMemory()
        )

    assert sorted(await redis(b"KEYS", f"{keys.namespace}:*")) == before


async def test_two_pipelines_and_two_namespaces_do_not_see_each_other(worker: Worker, unique_namespace: str) -> None:
    for stranger in (Keys(unique_namespace, "another"), Keys(f"{unique_namespace}b", "lab")):
        broker = Broker(worker.broker.dialer, stranger)
        await Publishing(broker).publish(IN, [output(IN, b"theirs", dedup="same")], token="same", dedup=DedupMemory())
        assert (await Runs(broker).snapshot(EDGES, STAGES)).outstanding == 1
        await broker.close()

    published = await Publishing(worker.broker).publish(
        IN, [output(IN, b"ours", dedup="same")], token="same", dedup=DedupMemory()
    )

    assert published.appended == 1
    assert (await worker.balance()).entered == 1
    assert [delivery.body for delivery in await worker.read()] == [b"ours"]


# Sources


async def test_a_cursor_moves_with_its_messages_and_only_from_where_its_source_left_it(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    async def publish(before: bytes, after: bytes) -> bool:
        move = CursorMove("rows", before, after)
        parcels = [Parcel(IN, [output(IN, b"1")]), Parcel(OUT, [output(OUT, b"1")])]
        return (await Publishing(worker.broker).publish_together(parcels, source="rows", move=move)).is_elsewhere

    assert not await publish(b"", b"1")
    assert await publish(b"", b"1")
    assert not await publish(b"1", b"2")
    assert await publish(b"1", b"2")

    assert await Runs(worker.broker).cursor("rows") == b"2"
    assert [await redis(b"XLEN", keys.edge(edge)) for edge in (IN, OUT)] == [2, 2]


async def test_one_full_edge_refuses_what_goes_to_several_edges(worker: Worker, keys: Keys, redis: Command) -> None:
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"x")])
    parcels = [Parcel(IN, [output(IN, b"1")], maxsize=9), Parcel(OUT, [output(OUT, b"1")], maxsize=1)]

    refused = await Publishing(worker.broker).publish_together(
        parcels, source="rows", move=CursorMove("rows", b"", b"1")
    )

    assert refused.full_at == 1
    assert await Runs(worker.broker).cursor("rows") == b""
    assert await redis(b"XLEN", keys.edge(IN)) == 0


async def test_what_cannot_be_a_message_is_dead_on_arrival_and_counted(worker: Worker) -> None:
    refused = Refused(IN, b"m1 - - 0", b"raw", b'{"reason":"undecodable"}')

    await Publishing(worker.broker).publish_together([Parcel(IN, [output(IN, b"1")], [refused])], source="rows")

    balance = await worker.balance()
    assert (balance.entered, balance.dead, balance.waiting, balance.adds_up) == (2, 1, 1, True)
    (letter,) = await StoredLetters(worker.broker, "parse").read()
    assert (letter.edge, letter.header, letter.body, letter.info) == (
        IN,
        b"m1 - - 0",
        b"raw",
        {"reason": "undecodable"},
    )


async def test_that_a_source_has_finished_is_noted_with_its_last_messages_or_not_at_all(worker: Worker) -> None:
    await Publishing(worker.broker).publish(OUT, [output(OUT, b"x")])
    full = [Parcel(OUT, [output(OUT, b"1")], maxsize=1)]
    free = [Parcel(IN, [output(IN, b"1")])]

    await Publishing(worker.broker).publish_together(full, source="rows", finished="signature")
    assert not await Runs(worker.broker).is_source_finished("rows", "signature")
    await Publishing(worker.broker).publish_together(free, source="rows", finished="signature")
    assert await Runs(worker.broker).is_source_finished("rows", "signature")
