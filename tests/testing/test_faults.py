"""Each fault happens at its point, once, and does to the server and to the workers what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import pytest

from flowq.broker import scripts
from flowq.errors import BrokerUnavailable, UsageError
from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    Fault,
    LostReply,
    PoisonBody,
    Refuse,
    Reorder,
    Restart,
    Slow,
    Stall,
)
from flowq.testing.simulation.fake_server import FakeServer
from flowq.testing.simulation.real_server import RealServer
from tests.conformance.worker import done, output, parse
from tests.conftest import Servers
from tests.redis_server import KINDS
from tests.testing.network_lab import NetworkLab

NewLab = Callable[..., NetworkLab]
OUT = "parse>store"


@pytest.fixture(params=["fake", *KINDS])
def new_lab(request: pytest.FixtureRequest, redis_server: Servers, unique_namespace: str) -> Iterator[NewLab]:
    """A network with these faults, on the fake server and on real ones."""
    server: Any = FakeServer
    if request.param != "fake":
        server = partial(RealServer, redis_server(request.param).url, namespace=unique_namespace)
    with ExitStack() as stack:

        def new(*faults: Fault) -> NetworkLab:
            lab = NetworkLab(faults, server=server, namespace=unique_namespace)
            stack.callback(lab.close)
            return lab

        yield new


def fired(lab: NetworkLab) -> Sequence[Fault]:
    assert not lab.injector.unfired
    return lab.injector.fired


def calls_that_arrive(lab: NetworkLab) -> list[str]:
    """The names of all calls that the server runs from now on."""
    names: list[str] = []
    lab.network.on_answer.append(lambda call, _commands, _replies: names.append(call.name))
    return names


def a_publish(lab: NetworkLab) -> Sequence[Any]:
    """A command that publishes, and that is not sent again when its reply is lost."""
    names = [lab.keys.stats, lab.keys.published, lab.keys.edge(">parse"), lab.keys.delayed(">parse")]
    return scripts.PUBLISH_PLAIN.by_digest(names, ["token", b"", b">parse", 0, 1000, b"id", b"raw"])


async def died(work: Coroutine[Any, Any, Any]) -> bool:
    try:
        await work
    except asyncio.CancelledError:
        return True
    return False


# Crash


def test_a_worker_that_crashes_before_it_settles_leaves_the_message_pending(new_lab: NewLab) -> None:
    lab = new_lab(Crash("parse", before="settle", nth=2))

    async def main() -> list[bool]:
        member = await lab.member("w")
        await member.publish(b"1", b"2")
        return [await died(member.settle(done(delivery))) for delivery in await member.read()]

    assert lab.run(main()) == [False, True]
    assert lab.crashed == ["w"]
    assert lab.bodies == [b"2"]
    assert lab.n_pending == 1
    assert [event.detail for event in lab.network.trace.of("crash")] == ["Crash('parse', before='settle', nth=2)"]


def test_a_worker_that_crashes_after_it_has_settled_leaves_nothing(new_lab: NewLab) -> None:
    lab = new_lab(Crash(parse, after="settle"))

    async def main() -> bool:
        member = await lab.member("w")
        return await died(member.settle(done(await member.given_one(), output(OUT, b"x"))))

    assert lab.run(main())
    assert lab.crashed == ["w"]
    assert lab.bodies == []
    assert lab.ask(b"XLEN", lab.keys.edge(OUT)) == 1


def test_a_worker_that_crashes_before_it_reads_has_no_messages(new_lab: NewLab) -> None:
    lab = new_lab(Crash("parse", before="read"))

    async def main() -> bool:
        member = await lab.member("w")
        await member.publish(b"1")
        return await died(member.read())

    assert lab.run(main())
    assert (lab.n_pending, lab.bodies) == (0, [b"1"])


def test_a_worker_that_crashes_after_it_has_read_holds_messages(new_lab: NewLab) -> None:
    lab = new_lab(Crash("parse", after="read"))

    async def main() -> bool:
        member = await lab.member("w")
        await member.reads(block_ms=1)  # a read without messages does not count
        await member.publish(b"1")
        return await died(member.read())

    assert lab.run(main())
    assert (lab.n_pending, lab.bodies) == (1, [b"1"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_crashes_around_a_handler(new_lab: NewLab, when: str) -> None:
    lab = new_lab(Crash("parse", **{when: "handler"}, nth=2))  # type: ignore[arg-type]
    tap = lab.tap("w")
    called: list[int] = []

    async def handler(n: int) -> None:
        await tap.before_handler("parse")
        called.append(n)
        tap.after_handler("parse")

    async def main() -> list[bool]:
        return [await died(handler(n)) for n in (1, 2)]

    assert lab.run(main()) == [False, True]
    assert called == ([1] if when == "before" else [1, 2])
    assert lab.crashed == ["w"]


# Calls and replies


def test_after_a_lost_reply_the_script_has_run_and_the_caller_asks_again(new_lab: NewLab) -> None:
    lab = new_lab(LostReply("publish"), LostReply("settle"))
    arrived = calls_that_arrive(lab)

    async def main() -> int:
        member = await lab.member("w")
        with pytest.raises(BrokerUnavailable):
            await member.broker.publishing.call(*a_publish(lab), timeout_seconds=5)
        assert lab.bodies == [b"raw"]
        return (await member.settle(done(await member.read_one(), output(OUT, b"x")))).won

    assert lab.run(main()) == 0  # settled already, it cannot know by whom
    assert fired(lab) == [LostReply("publish"), LostReply("settle")]
    assert arrived.count("settle") == 2
    assert lab.ask(b"XLEN", lab.keys.edge(OUT)) == 1


def test_a_read_whose_reply_is_lost_leaves_its_messages_pending(new_lab: NewLab) -> None:
    lab = new_lab(LostReply("read"))

    async def main() -> list[bytes]:
        member = await lab.member("w")
        await member.publish(b"1")
        with pytest.raises(BrokerUnavailable):
            await member.read()
        return [row.body for row in await member.reader.own_pending("w")]

    assert lab.run(main()) == [b"1"]


def test_a_duplicate_arrives_twice_and_counts_once(new_lab: NewLab) -> None:
    lab = new_lab(Duplicate("publish"), Duplicate("settle"))
    arrived = calls_that_arrive(lab)

    async def main() -> int:
        member = await lab.member("w")
        await member.publish(b"1")
        await asyncio.sleep(0.1)
        receipt = await member.settle(done(await member.read_one(), output(OUT, b"x")))
        await asyncio.sleep(0.1)
        return receipt.won

    assert lab.run(main()) == 1
    assert arrived.count("publish") == arrived.count("settle") == 2
    assert (lab.bodies, lab.ask(b"XLEN", lab.keys.edge(OUT))) == ([], 1)


def test_a_call_is_overtaken_by_those_of_other_connections(new_lab: NewLab) -> None:
    lab = new_lab(Reorder())

    async def main() -> None:
        one, two = await lab.member("one"), await lab.member("two")
        late = asyncio.create_task(one.publish(b"first"))
        await asyncio.sleep(0)
        await two.publish(b"second")
        await late

    lab.run(main())

    assert lab.bodies == [b"second", b"first"]


def test_a_disconnect_cuts_all_connections_of_a_worker_which_opens_others(new_lab: NewLab) -> None:
    lab = new_lab(Disconnect())

    async def main() -> list[bytes]:
        member, other = await lab.member("w"), await lab.member("other")
        reading = asyncio.create_task(member.reads(block_ms=60_000))
        await asyncio.sleep(1)
        with pytest.raises(BrokerUnavailable):
            await member.broker.publishing.call(*a_publish(lab), timeout_seconds=5)
        with pytest.raises(BrokerUnavailable):
            await reading
        await other.publish(b"1")
        return await member.reads()

    assert lab.run(main()) == [b"1"]
    assert fired(lab) == [Disconnect()]


# The whole server


def test_a_stall_delays_every_call_and_longer_ones_end_callers_but_not_their_calls(new_lab: NewLab) -> None:
    lab = new_lab(Stall(8))

    async def main() -> float:
        member = await lab.member("w")
        began = lab.loop.time()
        with pytest.raises(BrokerUnavailable):
            await member.broker.publishing.call(*a_publish(lab), timeout_seconds=5)
        assert lab.bodies == []
        await member.publish(b"after")
        return lab.loop.time() - began

    assert lab.run(main()) == pytest.approx(8, abs=0.01)
    assert lab.bodies == [b"raw", b"after"]


def test_a_server_out_of_memory_refuses_new_messages_and_lets_others_be_settled(new_lab: NewLab) -> None:
    lab = new_lab(Refuse("OOM", seconds=5, nth=2))

    async def main() -> None:
        member = await lab.member("w")
        delivery = await member.given_one()
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            await member.publish(b"2")
        await member.settle(done(delivery))
        await asyncio.sleep(5)
        await member.publish(b"3")

    lab.run(main())

    assert lab.bodies == [b"3"]


@pytest.mark.parametrize("error", ["READONLY", "LOADING", "BUSY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN"])
def test_a_server_refuses_every_call_for_a_while(error: Any) -> None:
    lab = NetworkLab([Refuse(error, seconds=5)])

    async def main() -> None:
        member = await lab.member("w")
        with pytest.raises(BrokerUnavailable):
            await member.publish(b"1")
        with pytest.raises(BrokerUnavailable):
            await member.broker.ping()
        await asyncio.sleep(5)
        await member.broker.ping()

    lab.run(main())

    assert lab.bodies == []
    lab.close()


def test_a_failover_forgets_nothing_that_its_replica_has_confirmed(new_lab: NewLab) -> None:
    lab = new_lab(Failover(forget=2, nth=3))

    async def main() -> int:
        member = await lab.member("w")
        await member.publish(b"1")
        n_confirmed = 0
        while not n_confirmed:  # the replica lags, at times for longer
            n_confirmed = await member.broker.answer(b"WAIT", 1, 250)
        await member.publish(b"2")  # forgotten
        with pytest.raises(BrokerUnavailable):
            await member.publish(b"3")
        return n_confirmed

    assert lab.run(main()) == 1
    assert fired(lab) == [Failover(forget=2, nth=3)]
    assert lab.bodies == [b"1"]


def test_a_failover_forgets_the_last_calls_that_moved_messages(new_lab: NewLab) -> None:
    lab = new_lab(Failover(forget=2, nth=4))

    async def main() -> None:
        member = await lab.member("w")
        await member.publish(b"1")
        await member.publish(b"2")  # forgotten
        await member.read(1)  # forgotten, and so is the lease that follows
        for number in (3, 4, 5):
            try:
                await member.publish(b"%d" % number)
            except BrokerUnavailable:
                await member.publish(b"again")

    lab.run(main())

    assert fired(lab) == [Failover(forget=2, nth=4)]
    assert lab.bodies[0] == b"1"
    assert b"2" in lab.bodies
    assert lab.n_pending == 0


# Messages and handlers


def test_a_poisoned_message_arrives_with_another_body_and_is_stored_with_its_own(new_lab: NewLab) -> None:
    lab = new_lab(PoisonBody("parse", nth=3))

    async def main() -> list[bytes]:
        member = await lab.member("w")
        await member.publish(b"1", b"2", b"3", b"4")
        return await member.reads(2) + await member.reads(2)

    first, second, third, fourth = lab.run(main())

    assert [first, second, fourth] == [b"1", b"2", b"4"]
    with pytest.raises(UnicodeDecodeError):
        third.decode()
    assert lab.bodies == [b"1", b"2", b"3", b"4"]


def test_a_slow_handler_begins_later(new_lab: NewLab) -> None:
    lab = new_lab(Slow("parse", 90, nth=2))
    tap = lab.tap("w")

    async def main() -> list[float]:
        began: list[float] = []
        for _ in range(3):
            await tap.before_handler("parse")
            began.append(lab.loop.time())
        return began

    assert lab.run(main()) == [0, 90, 90]


def test_a_restart_asks_the_worker_to_stop_and_loses_nothing(new_lab: NewLab) -> None:
    lab = new_lab(Restart(nth=2))

    async def main() -> None:
        one, two = await lab.member("one"), await lab.member("two")
        await one.publish(b"1")
        await two.publish(b"2")

    lab.run(main())

    assert lab.restarted == ["two"]
    assert lab.bodies == [b"1", b"2"]


# All of them


def test_a_worker_that_is_not_faulty_meets_no_faults(new_lab: NewLab) -> None:
    lab = new_lab(Disconnect(), LostReply("publish"), Crash("parse", before="read"))

    async def main() -> list[bytes]:
        member = await lab.member("test", is_faulty=False)
        await member.publish(b"1")
        return await member.reads()

    assert lab.run(main()) == [b"1"]
    assert len(lab.injector.unfired) == 3


CANNOT_HAPPEN: dict[str, tuple[Callable[[], Fault], str]] = {
    "no point": (lambda: Crash("parse"), "before= or after="),
    "two points": (lambda: Crash("parse", before="read", after="read"), "before= or after="),
    "unknown point": (lambda: Crash("parse", before=cast("Any", "setle")), "settle"),
    "unknown call": (lambda: LostReply("setle"), "settle"),
    "a call of no worker": (lambda: LostReply("start_run"), "settle"),
    "read twice": (lambda: Duplicate("read"), "settle"),
    "unknown error": (lambda: Refuse(cast("Any", "OOOM")), "OOM"),
    "no time": (lambda: Stall(0), "seconds=5"),
    "negative time": (lambda: Slow("parse", -1), "seconds=5"),
    "time as text": (lambda: Stall(cast("Any", "5s")), "seconds=5"),
    "less than nothing": (lambda: Failover(forget=-1), "forget=5"),
    "at no time": (lambda: Reorder(nth=0), "nth=1"),
    "between two times": (lambda: Reorder(nth=cast("Any", 1.5)), "nth=1"),
}


@pytest.mark.parametrize("name", CANNOT_HAPPEN)
def test_a_fault_that_cannot_happen_is_refused(name: str) -> None:
    make, hint = CANNOT_HAPPEN[name]

    with pytest.raises(UsageError) as raised:
        make()

    assert hint in raised.value.hint


def test_a_fault_prints_as_the_code_that_makes_it() -> None:
    faults = [Crash(parse, before="settle", nth=3), Slow("parse", 1.5), Stall(20), Refuse("BUSY", seconds=1), Restart()]

    assert [eval(str(fault)) for fault in faults] == faults
    assert str(faults[0]) == "Crash('parse', before='settle', nth=3)"
