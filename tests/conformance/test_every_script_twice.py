"""A reply may be lost: a script that is sent again changes nothing more, and answers what it has answered before.

Each case has one script called as flowq calls it. What was sent is sent again. A script without a case fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

import flowq
from flowq.broker import moving, pauses, recorded_plan, repairing, scripts, vitals
from flowq.broker.clock import follow_clock
from flowq.broker.connection import Dialer
from flowq.broker.keys import GROUP, Keys
from flowq.broker.looking import kin_on_edge, peek
from flowq.broker.publishing import CursorMove, Parcel, Refused
from flowq.broker.records import pairs
from flowq.broker.scripts import Script
from flowq.broker.settling import Settling
from flowq.broker.source_turns import take_source
from flowq.broker.tempo import record_tempo
from flowq.delivery.policy import Keep, Rate
from flowq.delivery.settlement import DeadLetter
from flowq.repair.kept import Kept
from flowq.repair.purging import purge
from tests.conformance.conftest import Command
from tests.conformance.paced import asked, done, given, sent_to_queue, turns
from tests.conformance.worker import EDGES, IN, OUT, PLAN, STAGES, Worker, buried, output, parse, released, retried
from tests.conformance.worker import done as handled

NEW = ">tidy"
ALL = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}


# What is sent


class Call(NamedTuple):
    """One call of a script: the command, and what was answered."""

    command: Sequence[bytes]
    answer: Any


@dataclass
class Recorder:
    """Connections to a server that remember the scripts that were called over them."""

    dialer: Dialer
    calls: list[Call] = field(default_factory=list[Call])

    def __post_init__(self) -> None:
        self.url, self.address, self.is_private = self.dialer.url, self.dialer.address, self.dialer.is_private

    async def dial(self) -> Any:
        return _Recorded(await self.dialer.dial(), self.calls)

    def first(self, script: Script) -> Call:
        """The first call of a script that did something."""
        found = [call for call in self.calls if call.command[1] in (script.digest, script.text)]
        return found[1 if script is scripts.FOLLOW_CLOCK else 0]  # which asks first


class _Recorded:
    """A connection as flowq uses one."""

    def __init__(self, connection: Any, calls: list[Call]) -> None:
        self._connection, self._calls = connection, calls
        self._under_way: list[Sequence[bytes]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def send_packed_command(self, packed: Sequence[bytes], **options: Any) -> None:
        self._under_way = [_words(command) for command in packed]
        await self._connection.send_packed_command(packed, **options)

    async def read_response(self, **options: Any) -> Any:
        command = self._under_way.pop(0)
        answer = await self._connection.read_response(**options)
        if command[0] in (b"EVAL", b"EVALSHA"):
            self._calls.append(Call(command, answer))
        return answer


def _words(packed: bytes) -> list[bytes]:
    """The words of a command in the protocol of Redis: *N, then for each $LENGTH and the word."""
    head, _, rest = packed.partition(b"\r\n")
    words: list[bytes] = []
    for _ in range(int(head[1:])):
        length, _, rest = rest.partition(b"\r\n")
        words.append(rest[: int(length[1:])])
        rest = rest[int(length[1:]) + 2 :]
    return words


async def keyspace(redis: Command, keys: Keys) -> Mapping[bytes, Any]:
    """All that there is of the pipeline, but for how long messages have been running and when keys expire."""
    found: dict[bytes, Any] = {}
    for key in sorted(await redis(b"KEYS", keys.all)):
        match await redis(b"TYPE", key):
            case b"string":
                found[key] = await redis(b"GET", key)
            case b"hash":
                found[key] = dict(pairs(await redis(b"HGETALL", key)))
            case b"set":
                found[key] = set(await redis(b"SMEMBERS", key))
            case b"zset":
                found[key] = dict(pairs(await redis(b"ZRANGE", key, 0, -1, b"WITHSCORES")))
            case _:
                groups = [dict(pairs(group)) for group in await redis(b"XINFO", b"GROUPS", key)]
                pending: Sequence[Any] = await redis(b"XPENDING", key, GROUP, b"-", b"+", 1000) if groups else ()
                found[key] = (
                    await redis(b"XRANGE", key, b"-", b"+"),
                    [(group[b"name"], group[b"consumers"], group[b"last-delivered-id"]) for group in groups],
                    [(entry_id, consumer, times) for entry_id, consumer, _, times in pending],
                )
    return found


# The cases


@dataclass
class Lab:
    """Two workers, one of whom is gone in some cases, and somebody's hand on Redis."""

    worker: Worker
    other: Worker
    keys: Keys
    redis: Command

    async def letters(self, n: int = 2) -> list[str]:
        """Dead letters of `parse`; their ids."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(n)])
        await self.worker.settle(*[buried(delivery) for delivery in await self.worker.read(n)])
        return [item[0].decode() for item in await self.redis(b"XRANGE", self.keys.dead("parse"), b"-", b"+")]

    async def leave(self) -> None:
        """The other worker has read three messages, and its lease is over."""
        await self.worker.publish(b"1", b"2", b"3")
        await self.other.read(3)
        await self.redis(b"DEL", self.keys.lease(self.other.name))

    async def delayed(self, delay_ms: int = 60_000) -> None:
        """Messages in every place: two that wait, two that run, two that are delayed."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(4)])
        await self.worker.settle(*[retried(delivery, delay_ms) for delivery in await self.worker.read(2)])
        await self.worker.read(2)
        await self.worker.publish(b"1", b"2")


Case = Callable[[Lab], Awaitable[Any]]
CASES: dict[str, Case] = {}


def calls(script: Script) -> Callable[[Case], Case]:
    """What is decorated has this script called; called last, where that makes a difference."""

    def add(case: Case) -> Case:
        CASES[script.name] = case
        return case

    return add


@calls(scripts.SETTLE)
async def _(lab: Lab) -> None:
    settling = Settling(lab.worker.broker, {OUT: 1000}, {"parse": Keep(10)}, keeps_answers=True)
    await settling.connect()
    ok, dead, back, later = await given(lab.worker, 4)
    outputs = [output(OUT, b"1", dedup="a"), output(OUT, b"2", dedup="a"), output(OUT, b"3", dedup="b", delay_ms=50)]
    batch = [handled(ok, *outputs), buried(dead), released(back), retried(later)]
    await settling.settle("parse", IN, batch, worker=lab.worker.name)
    await settling.close()


@calls(scripts.PUBLISH)
async def _(lab: Lab) -> None:
    refused = Refused(IN, b"r - - 0", b"bad", b"{}")
    messages = [output(IN, b"1", dedup="a"), output(IN, b"2", dedup="a"), output(IN, b"3", dedup="b")]
    parcels = [Parcel(IN, messages, [refused], "parse", 100, 1000), Parcel(OUT, [output(OUT, b"4")])]
    move = CursorMove("source", b"", b"7")
    await lab.worker.broker.publish_together(parcels, token="token", source="source", move=move, finished="all")


@calls(scripts.RESERVE)
async def _(lab: Lab) -> None:
    paced = turns(lab.worker, Rate(10, concurrency=2))
    await paced.hold("held", 0.001, "")
    deliveries = await given(lab.worker, 5)
    await asked(paced, lab.worker, *deliveries)


@calls(scripts.HOLD)
async def _(lab: Lab) -> None:
    await turns(lab.worker, Rate(10)).hold("a", 0.001, "HTTP 429")


@calls(scripts.CALL)
async def _(lab: Lab) -> None:
    paced = turns(lab.worker, Rate(10, adaptive=True, concurrency=2))
    first, *rest = await given(lab.worker, 6)
    for delivery in rest:
        await sent_to_queue(lab.worker, delivery)
    await paced.call([done(lab.worker, first, b"f", took=0.1)], [], sweep=True)


@calls(scripts.FORGET)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1, b"b", 2)
    await turns(lab.worker, Rate(10)).forget()


@calls(scripts.PROMOTE)
async def _(lab: Lab) -> None:
    for i in range(3):
        await lab.redis(b"ZADD", lab.keys.delayed(IN), i, b"m%d" % i)
        await lab.redis(b"HSET", lab.keys.parked(IN), b"m%d" % i, b"m - - 0\nbody")
    await lab.worker.broker.promote([IN], limit=1)


@calls(scripts.MAKE_GROUPS)
async def _(lab: Lab) -> None:
    await lab.worker.broker.ensure_groups([*EDGES, NEW])


@calls(scripts.REGISTER)
async def _(lab: Lab) -> None:
    await lab.worker.broker.register("third", {}, lease_ms=60_000, beat="1")


@calls(scripts.RETIRE)
async def _(lab: Lab) -> None:
    await lab.leave()
    await lab.other.broker.retire(lab.other.name, EDGES)


@calls(scripts.CERTIFY)
async def _(lab: Lab) -> None:
    await lab.worker.broker.certify_dead(lab.other.name, "killed")


@calls(scripts.STRIKE_OFF)
async def _(lab: Lab) -> None:
    await lab.worker.broker.certify_dead(lab.other.name, "killed")
    await lab.redis(b"HSET", lab.keys.suspects, b"entry", 1)
    await lab.worker.broker.forget([lab.other.name])


@calls(scripts.RECLAIM)
async def _(lab: Lab) -> None:
    await lab.leave()
    taken = await lab.worker.broker.reclaim(IN, lab.other.name, lab.worker.name, limit=2, crashed="killed")
    assert taken is not None
    assert len(taken.deliveries) == 2


@calls(scripts.BEGIN_RUN)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.stats, b"ok:parse", 5)
    broker = lab.worker.broker
    await broker.begin_run("new", sources=["source"], signature="s", edges=EDGES, stages=STAGES, fresh=True)
    await lab.worker.publish(b"what others do in the run")


@calls(scripts.FOLLOW_CLOCK)
async def _(lab: Lab) -> None:
    in_an_hour = 1000 * int((await lab.redis(b"TIME"))[0]) + 3_600_000
    await lab.redis(b"HSET", lab.keys.clock, b"latest_ms", in_an_hour)
    await lab.redis(b"ZADD", lab.keys.delayed(IN), in_an_hour + 60_000, b"m")
    assert 3590 < await follow_clock(lab.worker.broker, PLAN) <= 3600


@calls(scripts.TAKE_SOURCE)
async def _(lab: Lab) -> None:
    await take_source(lab.worker.broker, "source", lab.worker.name)


@calls(scripts.RECORD_PLAN)
async def _(lab: Lab) -> None:
    await recorded_plan.record_plan(lab.worker.broker, PLAN)


@calls(scripts.RECORD_TEMPO)
async def _(lab: Lab) -> None:
    await record_tempo(lab.worker.broker, {"parse": {3: 1}})


@calls(scripts.DROP_EDGE)
async def _(lab: Lab) -> None:
    await recorded_plan.record_plan(lab.worker.broker, PLAN)
    await lab.worker.publish(b"1")
    record = await lab.redis(b"HGET", lab.keys.plan, IN)
    assert await recorded_plan.drop_edge(lab.worker.broker, recorded_plan.Orphan(IN, 1, (), 0, record))


@calls(scripts.PAUSE)
async def _(lab: Lab) -> None:
    assert await pauses.pause(lab.worker.broker, ["parse"])


@calls(scripts.MOVE_EDGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    for worker in (lab.worker, lab.other):
        await lab.redis(b"DEL", lab.keys.lease(worker.name))
    assert await moving.move_edge(lab.worker.broker, IN, NEW) == 6


@calls(scripts.MOVE_DEAD)
async def _(lab: Lab) -> None:
    await repairing.amend(lab.worker.broker, "parse", [((await lab.letters())[0], b"mended")])
    await moving.move_stage(lab.worker.broker, "parse", "tidy", {IN: NEW})


@calls(scripts.RENAME_STAGE)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1)
    await lab.redis(b"HSET", lab.keys.rate("tidy"), b"b", 2)
    await lab.letters()
    await moving.move_stage(lab.worker.broker, "parse", "tidy", {IN: NEW})


@calls(scripts.CALL_ALL)
async def _(lab: Lab) -> None:
    for delivery in await given(lab.worker, 2):
        await sent_to_queue(lab.worker, delivery)
    await moving.call_all(lab.worker.broker, "parse", [IN])


@calls(scripts.PURGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    edges = [PLAN.edge_by_name[IN]]
    assert await purge(lab.worker.broker, edges, {"parse": 3}) == {"parse": 3}


@calls(scripts.BURY)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    await repairing.bury(lab.worker.broker, "parse", delivery, DeadLetter("failed", None, delivery.header))


@calls(scripts.AMEND)
async def _(lab: Lab) -> None:
    await repairing.amend(lab.worker.broker, "parse", [((await lab.letters())[0], b"mended"), ("1-1", b"gone")])


@calls(scripts.PUT_BACK)
async def _(lab: Lab) -> None:
    first, second = await lab.letters()
    ways = [repairing.WayBack(first, b"m1 - - 0", ""), repairing.WayBack(second, b"m2 - - 0", "", 60_000)]
    assert await repairing.put_back(lab.worker.broker, "parse", IN, ways) == 2


@calls(scripts.PUT_BACK_KEPT)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.kept("parse"), b"*", b"h", b"m1 - - 0", b"b", b'{"n":1}')
    keeping = flowq.Pipeline("lab", parse.options(keep=10)).plan
    assert await Kept(keeping, lab.worker.broker, "parse").replay() == 1


@calls(scripts.REMOVE_DEAD)
async def _(lab: Lab) -> None:
    assert await repairing.remove(lab.worker.broker, "parse", await lab.letters()) == 2


@calls(scripts.RESTORE_DEAD)
async def _(lab: Lab) -> None:
    letters = [repairing.Exported(f"t{i}", f"1-{i + 1}", IN, b"m%d - - 0" % i, b"{}", b"{}") for i in range(2)]
    assert await repairing.restore(lab.worker.broker, "parse", letters) == 2


@calls(scripts.READ_DEAD)
async def _(lab: Lab) -> None:
    await repairing.entries_named(lab.worker.broker, "parse", await lab.letters())


@calls(scripts.SNAPSHOT)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await lab.worker.snapshot()


@calls(scripts.VITALS)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await vitals.vitals_of(lab.worker.broker, EDGES)


@calls(scripts.SLOWEST)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await vitals.slowest_of(lab.worker.broker, EDGES, at_least_seconds=0)


@calls(scripts.PEEK)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await peek(lab.worker.broker, EDGES, most=10)


@calls(scripts.FIND)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    assert len([found async for found in kin_on_edge(lab.worker.broker, IN, delivery.message_id)]) == 1


@calls(scripts.REFERENCES)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.released, b"*", b"r", b"a reference\n")
    await lab.worker.broker.script(scripts.REFERENCES, [lab.keys.released], 1, 10, "0-0")


# What moves with the clock, and why


def _timeless_peek(answer: Any) -> Any:
    _, *edges = answer  # it begins with the time, and tells for how long messages have been running
    return [([row[:3] for row in running], waiting, delayed) for running, waiting, delayed in edges]


TIMELESS: dict[str, Callable[[Any], Any]] = {
    "peek": _timeless_peek,
    "slowest": lambda rows: [(*row[:3], *row[4:]) for row in rows],  # for how long messages have been running
    "snapshot": lambda answer: [*answer[:3], *answer[4:]],  # the time
}


def _but_for_the_time_of_a_token(found: Mapping[bytes, Any], keys: Keys) -> Mapping[bytes, Any]:
    """A push that is sent again writes: only then does WAIT wait for it (`publish.lua`)."""
    published = {token: float(score) % 1 for token, score in found[keys.published.encode()].items()}
    return {**found, keys.published.encode(): published}


def test_every_script_has_a_case() -> None:
    assert CASES.keys() == ALL.keys()


@pytest.mark.parametrize("name", ALL)
async def test_sent_again_it_changes_nothing_and_answers_the_same(
    name: str, dialer: Dialer, keys: Keys, redis: Command
) -> None:
    recorder, script = Recorder(dialer), ALL[name]
    async with AsyncExitStack() as stack:
        worker, other = [await Worker.sign_on(recorder, keys, one) for one in ("first", "second")]
        for one in (worker, other):
            stack.push_async_callback(one.close)
        recorder.calls.clear()
        await CASES[name](Lab(worker, other, keys, redis))
    call, before = recorder.first(script), await keyspace(redis, keys)

    words, n_keys = call.command[3:], int(call.command[2])
    answer = await redis(*script.by_text(words[:n_keys], words[n_keys:]))

    timeless = TIMELESS.get(name, lambda answer: answer)
    assert timeless(answer) == timeless(call.answer)
    after = await keyspace(redis, keys)
    if name == "publish":
        before, after = (_but_for_the_time_of_a_token(found, keys) for found in (before, after))
    assert after == before
