"""Browsing consumes no messages, and purging removes only those that no worker runs, on every server."""

from __future__ import annotations

import pytest

from flowq.broker.inspection.browse import Browser, State
from flowq.broker.publishing import Publishing
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter import content_of
from flowq.dead_letters.lineage import Lineage
from flowq.dead_letters.purging import Purging
from flowq.delivery.encoding.compression import packed
from flowq.delivery.message import Delivery, Header, lineage_of
from flowq.delivery.settlement import Output
from tests.conformance.conftest import Command
from tests.conformance.worker import EDGES, IN, OUT, PLAN, Worker, buried, done, retried


def child(of: Delivery, name: str) -> Output:
    """A message that another one gave."""
    return Output(OUT, b"%b %b" % (name.encode(), lineage_of(of)), b'{"n":1}')


async def scattered(worker: Worker) -> tuple[Delivery, Delivery, list[str]]:
    """Two messages run, one is delayed, three wait: the two, and the ids of those that wait."""
    await worker.publish(b'{"n":1}', b'{"n":2}', b'{"n":3}')
    one, other, delayed = await worker.read()
    await worker.settle(retried(delayed))
    await worker.publish(b'{"n":4}', b'{"n":5}', b'{"n":6}')
    _, sights = await Browser(worker.broker).peek([IN], most=100)
    return one, other, [sight.delivery.message_id for sight in sights if sight.state is State.WAITING]


# Peek


async def test_a_look_shows_what_runs_waits_and_is_delayed_and_takes_nothing(worker: Worker) -> None:
    one, other, _ = await scattered(worker)
    before = await worker.snapshot()

    now_ms, sights = await Browser(worker.broker).peek(EDGES, most=100)

    assert [(sight.state, sight.delivery.body) for sight in sights] == [
        (State.RUNNING, b'{"n":1}'),
        (State.RUNNING, b'{"n":2}'),
        (State.WAITING, b'{"n":4}'),
        (State.WAITING, b'{"n":5}'),
        (State.WAITING, b'{"n":6}'),
        (State.DELAYED, b'{"n":3}'),
    ]
    assert [sight.worker for sight in sights[:2]] == [worker.name] * 2
    assert [sight.delivery.message_id for sight in sights[:2]] == [one.message_id, other.message_id]
    assert sights[-1].at_ms > now_ms >= sights[2].at_ms
    assert (await worker.snapshot()).edges == before.edges
    assert [delivery.body for delivery in await worker.read()] == [b'{"n":4}', b'{"n":5}', b'{"n":6}']


async def test_a_look_is_as_long_as_it_was_asked_to_be(worker: Worker) -> None:
    await scattered(worker)

    _, sights = await Browser(worker.broker).peek([IN], most=1)

    assert [sight.state for sight in sights] == [State.RUNNING, State.WAITING, State.DELAYED]


async def test_a_look_from_an_entry_on_shows_what_came_since(worker: Worker) -> None:
    await worker.publish(b"1")
    first = await worker.read_one()
    await worker.publish(b"2", b"3")

    _, sights = await Browser(worker.broker).peek([IN], most=100, after={(0, IN): first.entry_id.decode()})

    assert [sight.delivery.body for sight in sights] == [b"2", b"3"]


async def test_a_look_at_edges_that_were_never_used_shows_nothing(worker: Worker, redis: Command) -> None:
    await redis(b"DEL", worker.broker.keys.edge(IN))

    assert (await Browser(worker.broker).peek(EDGES, most=9))[1] == []


async def test_a_compressed_message_is_shown_as_it_was(worker: Worker) -> None:
    body, how = packed(b'{"n":1}' + b" " * 2000)
    header = b"big - - 0 e=" + how.encode()
    await Publishing(worker.broker).publish(IN, [Output(IN, header, body)])

    (_, (sight,)) = await Browser(worker.broker).peek([IN], most=9)

    assert how
    assert content_of(sight.delivery.header, sight.delivery.body).strip() == b'{"n":1}'
    assert content_of(sight.delivery.header, b"damaged") == b"damaged"


# Trace


async def test_a_family_is_found_wherever_its_members_are(worker: Worker, other: Worker) -> None:
    root = await worker.given_one()
    await worker.settle(done(root, child(root, "waits"), child(root, "dies")))
    await worker.given_one()  # a stranger
    reader = await other.sign_on(worker.broker.dialer, worker.broker.keys, "third", edges=[OUT])
    first, second = await reader.read()
    await reader.settle(buried(second), stage="store")

    lineage = await Lineage.of(PLAN, worker.broker, "dies")

    assert lineage.root_id == root.message_id
    assert [(depth, name, [place.state for place in places]) for depth, name, places in lineage.tree()] == [
        (0, root.message_id, []),
        (1, "dies", [State.DEAD]),
        (1, "waits", [State.RUNNING]),
    ]
    assert lineage.found["waits"][0].worker == "third"
    assert first.message_id == "waits"
    by_root = await Lineage.of(PLAN, worker.broker, root.message_id)
    assert by_root.is_known
    assert [(depth, name) for depth, name, _ in by_root.tree()] == [(depth, name) for depth, name, _ in lineage.tree()]
    await reader.close()


async def test_a_message_that_waits_and_one_that_is_delayed_are_found(worker: Worker) -> None:
    _, _, waiting = await scattered(worker)
    _, sights = await Browser(worker.broker).peek([IN], most=9)
    delayed = sights[-1].delivery.message_id

    for message_id, state in ((waiting[1], State.WAITING), (delayed, State.DELAYED)):
        lineage = await Lineage.of(PLAN, worker.broker, message_id)
        ((_, name, (place,)),) = lineage.tree()
        assert (name, place.state, place.place) == (message_id, state, IN)


async def test_of_a_message_that_never_was_nothing_is_known(worker: Worker) -> None:
    await scattered(worker)

    assert not (await Lineage.of(PLAN, worker.broker, "nobody")).is_known


async def test_a_family_is_found_among_thousands(worker: Worker) -> None:
    headers = [Header("m", "m", "-", 0) if n == 2500 else Header.entering(f"x{n}") for n in range(3000)]
    for i in range(0, 3000, 1000):
        await Publishing(worker.broker).publish(
            IN, [Output(IN, header.encode(), b"1") for header in headers[i : i + 1000]]
        )

    lineage = await Lineage.of(PLAN, worker.broker, "m")

    assert [name for _, name, _ in lineage.tree()] == ["m"]


# Purge


async def test_a_purge_leaves_what_runs_and_the_balance_adds_up(worker: Worker) -> None:
    one, other, _ = await scattered(worker)
    edges = PLAN.edges_into("parse")
    there = await Purging(worker.broker).idle(edges)
    assert there == {"parse": 4}

    assert await Purging(worker.broker).purge(edges, there) == {"parse": 4}

    balance = await worker.balance()
    assert (balance.entered, balance.purged, balance.running) == (6, 4, 2)
    assert (balance.waiting, balance.delayed) == (0, 0)
    await worker.settle(done(one), done(other))
    balance = await worker.balance()
    assert (balance.ok, balance.outstanding) == (2, 0)
    assert await Purging(worker.broker).purge(edges, there) == {"parse": 0}


async def test_no_more_is_purged_than_was_agreed_to(worker: Worker) -> None:
    await worker.publish(*(b"%d" % n for n in range(5)))

    assert await Purging(worker.broker).purge(PLAN.edges_into("parse"), {"parse": 3}) == {"parse": 3}

    assert [delivery.body for delivery in await worker.read()] == [b"3", b"4"]


async def test_what_another_program_added_is_purged_and_counted(worker: Worker, redis: Command) -> None:
    await redis(b"XADD", worker.broker.keys.edge(IN), b"*", b"b", b"1")

    await Purging(worker.broker).purge(PLAN.edges_into("parse"), {"parse": 9})

    balance = await worker.balance()
    assert (balance.entered, balance.purged) == (1, 1)


async def test_dead_letters_are_not_purged(worker: Worker) -> None:
    await worker.settle(buried(await worker.given_one()))

    await Purging(worker.broker).purge(PLAN.edges_into("parse"), {"parse": 9})

    assert len(await DeadLetters(PLAN, worker.broker).first(limit=9)) == 1


@pytest.mark.parametrize("fields", [(b"b", b"1"), (b"h", b"odd", b"b", b"1")], ids=str)
async def test_an_entry_of_another_program_can_be_looked_at(
    fields: tuple[bytes, ...], worker: Worker, redis: Command
) -> None:
    await redis(b"XADD", worker.broker.keys.edge(IN), b"*", *fields)

    (_, (sight,)) = await Browser(worker.broker).peek([IN], most=9)

    assert (sight.state, sight.delivery.body) == (State.WAITING, b"1")
