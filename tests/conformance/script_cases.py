"""One case for each script: calls it as flowq does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import flowq
from flowq.broker import scripts
from flowq.broker.audit import Audit, AuditRecord
from flowq.broker.clock import Clock
from flowq.broker.edges import Edges
from flowq.broker.flow_control.limiter import Verdict
from flowq.broker.flow_control.pauses import Pauses
from flowq.broker.inspection.browse import Browser
from flowq.broker.inspection.edge_stats import EdgeInspection
from flowq.broker.inspection.family import FamilySearch
from flowq.broker.inspection.letter_infos import letter_infos
from flowq.broker.inspection.retried_errors import RetriedErrors
from flowq.broker.inspection.throughput import Throughputs
from flowq.broker.keys import GROUP, Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.migration.recorded_plan import Orphan, RecordedPlan, recorded_edge
from flowq.broker.publishing import CursorMove, Parcel, Publishing, Refused
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, keys_of_run
from flowq.broker.scripts import Script
from flowq.broker.settling import Settling
from flowq.broker.shards.channel import EntryId, Mark
from flowq.broker.shards.outbox import Group, entries, outbox_arguments, packets
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.broker.shards.settling_out import SettlingOut
from flowq.broker.shards.target import Target
from flowq.broker.shards.waves import look
from flowq.broker.workers import Workers
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.purging import Purging
from flowq.dead_letters.stored_letters import Exported, StoredLetters, WayBack
from flowq.delivery.edge import address
from flowq.delivery.policy import DedupMemory, Keep, Rate
from flowq.delivery.settlement import DeadLetter
from tests.conformance.conftest import Command
from tests.conformance.paced import asked, done, end, given, limiter, sent_to_queue
from tests.conformance.worker import EDGES, IN, OUT, PLAN, STAGES, Worker, buried, output, parse, released, retried
from tests.conformance.worker import done as handled

NEW = ">tidy"


@dataclass
class Lab:
    """Two workers, one of which is gone in some cases, and direct access to Redis."""

    worker: Worker
    other: Worker
    keys: Keys
    redis: Command

    async def letters(self, n: int = 2) -> list[str]:
        """Make dead letters of `parse`; their ids."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(n)])
        await self.worker.settle(*[buried(delivery) for delivery in await self.worker.read(n)])
        return [item[0].decode() for item in await self.redis(b"XRANGE", self.keys.dead("parse"), b"-", b"+")]

    async def leave(self) -> None:
        """Let the other worker read three messages and lose its lease."""
        await self.worker.publish(b"1", b"2", b"3")
        await self.other.read(3)
        await self.redis(b"DEL", self.keys.lease(self.other.name))

    async def delayed(self, delay_ms: int = 60_000) -> None:
        """Put messages in every state: two waiting, two running, two delayed."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(4)])
        await self.worker.settle(*[retried(delivery, delay_ms) for delivery in await self.worker.read(2)])
        await self.worker.read(2)
        await self.worker.publish(b"1", b"2")


Case = Callable[[Lab], Awaitable[Any]]
CASES: dict[str, Case] = {}


def calls(script: Script) -> Callable[[Case], Case]:
    """The decorated case calls this script, last where it calls several."""

    def add(case: Case) -> Case:
        CASES[script.name] = case
        return case

    return add


@calls(scripts.SETTLE)
async def _(lab: Lab) -> None:
    settling = Settling(
        lab.worker.broker, {OUT: DedupMemory(1000, (">store", OUT))}, {"parse": Keep(10)}, keeps_answers=True
    )
    await settling.connect()
    ok, dead, back, later = await given(lab.worker, 4)
    outputs = [output(OUT, b"1", dedup="a"), output(OUT, b"2", dedup="a"), output(OUT, b"3", dedup="b", delay_ms=50)]
    batch = [handled(ok, *outputs), buried(dead), released(back), retried(later)]
    await lab.worker.settle(*batch, by=settling)
    await settling.close()


@calls(scripts.PUBLISH)
async def _(lab: Lab) -> None:
    refused = Refused(IN, b"r - - 0", b"bad", b"{}")
    messages = [output(IN, b"1", dedup="a"), output(IN, b"2", dedup="a"), output(IN, b"3", dedup="b")]
    parcels = [Parcel(IN, messages, [refused], DedupMemory(1000, (IN,)), 100), Parcel(OUT, [output(OUT, b"4")])]
    move = CursorMove("source", b"", b"7")
    await Publishing(lab.worker.broker).publish_together(
        parcels, token="token", source="source", move=move, finished="all"
    )


@calls(scripts.PUBLISH_PLAIN)
async def _(lab: Lab) -> None:
    messages = [output(IN, b"1"), output(IN, b"2")]
    await Publishing(lab.worker.broker).publish(IN, messages, token="token", call_id="call", maxsize=9)


@calls(scripts.RESERVE)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, concurrency=2))
    await paced.hold("held", 0.001, "")
    deliveries = await given(lab.worker, 5)
    await asked(paced, lab.worker, *deliveries)


@calls(scripts.HOLD)
async def _(lab: Lab) -> None:
    await limiter(lab.worker, Rate(10)).hold("a", 0.001, "HTTP 429")


@calls(scripts.FINISH)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, adaptive=True, concurrency=2))
    first, second = await given(lab.worker, 2)
    await sent_to_queue(lab.worker, second)
    assert await paced.finish([done(lab.worker, first, Verdict.FAILED, took=0.1)]) == ["a"]


@calls(scripts.DEQUEUE)
async def _(lab: Lab) -> None:
    paced = limiter(lab.worker, Rate(10, adaptive=True, concurrency=2))
    first, *rest = await given(lab.worker, 6)
    for delivery in rest:
        await sent_to_queue(lab.worker, delivery)
    await end(paced, done(lab.worker, first, Verdict.FAILED, took=0.1), sweep=True)


@calls(scripts.EXPIRE_IDLE_KEYS)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1, b"b", 2)
    await limiter(lab.worker, Rate(10)).expire_idle_keys()


@calls(scripts.PROMOTE)
async def _(lab: Lab) -> None:
    for i in range(3):
        await lab.redis(b"ZADD", lab.keys.delayed(IN), i, b"m%d" % i)
        await lab.redis(b"HSET", lab.keys.delayed_bodies(IN), b"m%d" % i, b"m - - 0\nbody")
    await Edges(lab.worker.broker).promote([IN], limit=1)


@calls(scripts.CREATE_GROUPS)
async def _(lab: Lab) -> None:
    await Edges(lab.worker.broker).ensure_groups([*EDGES, NEW])


@calls(scripts.REGISTER)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).register("third", {}, lease_ms=60_000, heartbeat="1")


@calls(scripts.RETIRE)
async def _(lab: Lab) -> None:
    await lab.leave()
    await Workers(lab.other.broker).retire(lab.other.name, EDGES)


@calls(scripts.RECORD_DEATH)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).record_death(lab.other.name, "killed")


@calls(scripts.FORGET_WORKERS)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).record_death(lab.other.name, "killed")
    await lab.redis(b"HSET", lab.keys.suspects, b"entry", 1)
    await Workers(lab.worker.broker).forget([lab.other.name])


@calls(scripts.RECLAIM)
async def _(lab: Lab) -> None:
    await lab.leave()
    taken = await Workers(lab.worker.broker).reclaim(IN, lab.other.name, lab.worker.name, limit=2, crashed="killed")
    assert taken is not None
    assert len(taken.deliveries) == 2


@calls(scripts.START_RUN)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.stats, b"ok:parse", 5)
    broker = lab.worker.broker
    await Runs(broker).begin("new", sources=["source"], signature="s", edges=EDGES, stages=STAGES, fresh=True)
    await lab.worker.publish(b"of another worker")


@calls(scripts.START_RUN_OF_SHARDS)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.stats, b"ok:parse", 5)
    names, n_seen = keys_of_run(lab.keys, EDGES, STAGES, (), ())
    arguments = "new", n_seen, len(EDGES), 1, "s", GROUP, 0, "source", "", 0
    await lab.worker.broker.script(scripts.START_RUN_OF_SHARDS, names, *arguments)
    await lab.worker.publish(b"of another worker")


@calls(scripts.JOIN_RUN)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.stats, b"ok:parse", 5)
    names, n_seen = keys_of_run(lab.keys, EDGES, STAGES, (), ())
    await lab.worker.broker.script(scripts.JOIN_RUN, names, "new", n_seen, len(EDGES), 1, GROUP, 0)
    await lab.worker.publish(b"of another worker")


@calls(scripts.FOLLOW_CLOCK)
async def _(lab: Lab) -> None:
    in_an_hour = 1000 * int((await lab.redis(b"TIME"))[0]) + 3_600_000
    await lab.redis(b"HSET", lab.keys.clock, b"latest_ms", in_an_hour)
    await lab.redis(b"ZADD", lab.keys.delayed(IN), in_an_hour + 60_000, b"m")
    assert 3590 < await Clock(lab.worker.broker).follow(PLAN) <= 3600


@calls(scripts.CLAIM_SOURCE)
async def _(lab: Lab) -> None:
    await Workers(lab.worker.broker).take_source("source", lab.worker.name)


@calls(scripts.RECORD_PLAN)
async def _(lab: Lab) -> None:
    await RecordedPlan(lab.worker.broker).record(PLAN)


@calls(scripts.RECORD_THROUGHPUT)
async def _(lab: Lab) -> None:
    await Throughputs(lab.worker.broker).record({"parse": {3: 1}}, edges=EDGES)


@calls(scripts.DROP_EDGE)
async def _(lab: Lab) -> None:
    await RecordedPlan(lab.worker.broker).record(PLAN)
    await lab.worker.publish(b"1")
    record = await lab.redis(b"HGET", lab.keys.plan, IN)
    assert await RecordedPlan(lab.worker.broker).drop(Orphan(IN, 1, recorded_edge(record)))


@calls(scripts.PAUSE)
async def _(lab: Lab) -> None:
    assert await Pauses(lab.worker.broker).pause(["parse"])


@calls(scripts.RECORD_ACTION)
async def _(lab: Lab) -> None:
    await Audit(lab.worker.broker).record(AuditRecord(0, "ana", "pause", "parse", 0, "done"))


@calls(scripts.MOVE_EDGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    for worker in (lab.worker, lab.other):
        await lab.redis(b"DEL", lab.keys.lease(worker.name))
    assert await Moving(lab.worker.broker).edge(IN, NEW) == 6


@calls(scripts.MOVE_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").edit([((await lab.letters())[0], b"edited")])
    await Moving(lab.worker.broker).stage("parse", "tidy", {IN: NEW})


@calls(scripts.RENAME_STAGE)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.rate("parse"), b"a", 1)
    await lab.redis(b"HSET", lab.keys.rate("tidy"), b"b", 2)
    await lab.letters()
    await lab.delayed()
    await Moving(lab.worker.broker).stage("parse", "tidy", {IN: NEW})


@calls(scripts.MOVE_SEEN)
async def _(lab: Lab) -> None:
    for edge, values in ((IN, "ab"), (OUT, "bc")):
        messages = [output(edge, b"1", dedup=value) for value in values]
        await Publishing(lab.worker.broker).publish(edge, messages, dedup=DedupMemory(60_000))
    await Moving(lab.worker.broker).stage("parse", "store", {})


@calls(scripts.TAKE_OVER_SEEN)
async def _(lab: Lab) -> None:
    await lab.redis(b"SADD", lab.keys.seen("parse"), b"a" * 16)
    await Runs(lab.worker.broker).take_over_seen(STAGES)


@calls(scripts.DEQUEUE_ALL)
async def _(lab: Lab) -> None:
    for delivery in await given(lab.worker, 2):
        await sent_to_queue(lab.worker, delivery)
    await Moving(lab.worker.broker).dequeue_all("parse", [IN])


@calls(scripts.PURGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    edges = [PLAN.edge_by_name[IN]]
    assert await Purging(lab.worker.broker).purge(edges, {"parse": 3}) == {"parse": 3}


@calls(scripts.ADD_DEAD_LETTER)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    await StoredLetters(lab.worker.broker, "parse").bury(delivery, DeadLetter("failed", None, delivery.header))


@calls(scripts.EDIT_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").edit([((await lab.letters())[0], b"edited"), ("1-1", b"gone")])


@calls(scripts.PUT_BACK_LETTERS)
async def _(lab: Lab) -> None:
    first, second = await lab.letters()
    ways = [WayBack(first, b"m1 - - 0", ""), WayBack(second, b"m2 - - 0", "", 60_000)]
    assert await StoredLetters(lab.worker.broker, "parse").put_back(IN, ways) == 2


@calls(scripts.PUT_BACK_KEPT)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.kept("parse"), b"*", b"h", b"m1 - - 0", b"b", b'{"n":1}')
    keeping = flowq.Pipeline("lab", parse.options(keep=10)).plan
    assert await Kept(keeping, lab.worker.broker, "parse").replay() == 1


@calls(scripts.REMOVE_LETTERS)
async def _(lab: Lab) -> None:
    assert await StoredLetters(lab.worker.broker, "parse").remove(await lab.letters()) == 2


@calls(scripts.RESTORE_LETTERS)
async def _(lab: Lab) -> None:
    letters = [Exported(f"t{i}", f"1-{i + 1}", IN, b"m%d - - 0" % i, b"{}", b"{}") for i in range(2)]
    assert await StoredLetters(lab.worker.broker, "parse").restore(letters) == 2


@calls(scripts.READ_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").named(await lab.letters())


@calls(scripts.LETTER_INFOS)
async def _(lab: Lab) -> None:
    await lab.letters()
    await letter_infos(lab.worker.broker, {"parse": ""}, limit=10)


@calls(scripts.LETTERS_BEFORE)
async def _(lab: Lab) -> None:
    await lab.letters()
    await StoredLetters(lab.worker.broker, "parse").before("", limit=10)


@calls(scripts.SNAPSHOT)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await lab.worker.snapshot()


@calls(scripts.EDGE_STATS)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await EdgeInspection(lab.worker.broker).stats(EDGES)


@calls(scripts.DELAYED_FAILURES)
async def _(lab: Lab) -> None:
    await lab.delayed()
    assert (await RetriedErrors(lab.worker.broker).of(PLAN, await lab.worker.snapshot()))["parse"][0].delayed == 2


@calls(scripts.SLOWEST)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await EdgeInspection(lab.worker.broker).slowest(EDGES, at_least_seconds=0)


@calls(scripts.BROWSE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await Browser(lab.worker.broker).peek(EDGES, most=10)


@calls(scripts.FIND_FAMILY)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    search = FamilySearch(PLAN, lab.worker.broker, delivery.message_id)
    await search.step()
    assert len(search.found) == 1


@calls(scripts.BODY_REFERENCES)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.released, b"*", b"r", b"a reference\n")
    await lab.worker.broker.script(scripts.BODY_REFERENCES, [lab.keys.released], 1, 10, "0-0")


@calls(scripts.BRIDGE)
async def _(lab: Lab) -> None:
    broker = lab.worker.broker
    link = broker.link()
    await lab.redis(b"HSET", lab.keys.inbox, 3, b"5-2 10")
    await Target(broker, source=3).bridge(link, Mark(EntryId(5, 2), 10), Mark(EntryId(5, 7), 40))
    await link.close()


def with_a_second_shard(lab: Lab) -> Broker:
    """The broker of the worker, as if there were a second shard."""
    broker = lab.worker.broker
    broker.shards = [broker, Broker(broker.dialer, lab.keys.in_shard(1))]
    return broker


@calls(scripts.SETTLE_OUT)
async def _(lab: Lab) -> None:
    settling = SettlingOut(with_a_second_shard(lab), {OUT: DedupMemory()}, keeps_answers=True)
    await settling.connect()
    there = [output(OUT, b"1", dedup="a"), output(OUT, b"2", dedup="b", delay_ms=50)]
    outputs = [output(OUT, b"3", dedup="c"), *[each._replace(edge=address(1, OUT)) for each in there]]
    await lab.worker.settle(handled(await lab.worker.given_one(), *outputs), by=settling)
    await settling.close()


@calls(scripts.PUBLISH_OUT)
async def _(lab: Lab) -> None:
    parcels = [Parcel(IN, [output(IN, b"1")]), Parcel(address(1, IN), [output(IN, b"2"), output(IN, b"3")])]
    move = CursorMove("source", b"", b"7")
    publishing = PublishingOut(with_a_second_shard(lab))
    await publishing.publish_together(parcels, token="token", source="source", move=move, finished="all")


@calls(scripts.APPLY)
async def _(lab: Lab) -> None:
    memory = DedupMemory(60_000, (">store", OUT))
    outputs = [output(OUT, b"1", dedup="a"), output(OUT, b"2", dedup="a"), output(OUT, b"3")]
    delayed = [output(OUT, b"4", dedup="b", delay_ms=60_000)]
    (packet,) = packets([Group(OUT, memory, outputs, delayed), Group(IN, None, [output(IN, b"5")])], [0, 0])
    (entry,) = entries([packet], [b"7-1 0-0 5"])
    link = lab.worker.broker.link()
    await Target(with_a_second_shard(lab), source=1).apply(link, [entry])
    await link.close()


@calls(scripts.WAVE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await lab.redis(b"HSET", lab.keys.heads, b"1", b"7-1 3", b"epoch", 7, b"layout", 2)
    seen = await look(with_a_second_shard(lab), EDGES)
    assert (seen.outstanding, seen.heads) == (6, {1: Mark(EntryId(7, 1), 3)})


@calls(scripts.GIVE)
async def _(lab: Lab) -> None:
    broker = with_a_second_shard(lab)
    await Publishing(broker).publish(IN, [output(IN, b"1"), output(IN, b"2")])
    entries = await lab.redis(b"XRANGE", lab.keys.edge(IN), b"-", b"+")
    sent = packets([Group(IN, None, [output(IN, b"1")], is_moved=True)], [1])
    names = [lab.keys.workers, lab.keys.stats, *lab.keys.of_edge(IN)]
    more_names, more = outbox_arguments(lab.keys, sent, layout=2, nonce=5, floor=0)
    arguments = GROUP, IN, 1, 0, 1, 0, 0, *(entry_id for entry_id, _ in entries), b"other - - 0 k=YQ", *more
    assert await broker.script(scripts.GIVE, [*names, *more_names], *arguments) == [1]


@calls(scripts.PACK_SEEN)
async def _(lab: Lab) -> None:
    await lab.redis(b"SADD", lab.keys.seen("parse"), b"a" * 16)
    await Runs(lab.worker.broker).take_over_seen(STAGES)
    await lab.worker.broker.script(scripts.PACK_SEEN, _memory_of(lab), 0, 0, 10)


@calls(scripts.ADD_SEEN)
async def _(lab: Lab) -> None:
    await lab.worker.broker.script(scripts.ADD_SEEN, _memory_of(lab), 0, 10, 0, b"0123456789abcdefghij")


@calls(scripts.DROP_SEEN)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.seen("parse"), b"about", b"5 1 2 0", b"0", b"0123456789")
    names = [lab.keys.seen("parse")]
    await lab.worker.broker.script(scripts.DROP_SEEN, names, 0, b"0123456789", b"56789", 1)


def _memory_of(lab: Lab) -> list[str]:
    return [lab.keys.seen("parse"), lab.keys.unpacked("parse"), lab.keys.workers]
