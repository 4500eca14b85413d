"""Cases of the scripts that take messages from shard to shard."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.keys import GROUP
from flowq.broker.publishing import CursorMove, Parcel, Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, keys_of_run
from flowq.broker.shards.channel import EntryId, Mark
from flowq.broker.shards.outbox import Group, entries, outbox_arguments, packets
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.broker.shards.settling_out import SettlingOut
from flowq.broker.shards.target import Target
from flowq.broker.shards.waves import look
from flowq.delivery.edge import address
from flowq.delivery.policy import DedupMemory
from tests.conformance.script_cases.case import Lab, calls
from tests.conformance.worker import EDGES, IN, OUT, STAGES, output
from tests.conformance.worker import done as handled


def with_a_second_shard(lab: Lab) -> Broker:
    """The broker of the worker, as if there were a second shard."""
    broker = lab.worker.broker
    broker.shards = [broker, Broker(broker.dialer, lab.keys.in_shard(1))]
    return broker


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


@calls(scripts.BRIDGE)
async def _(lab: Lab) -> None:
    broker = lab.worker.broker
    link = broker.link()
    await lab.redis(b"HSET", lab.keys.inbox, 3, b"5-2 10")
    await Target(broker, source=3).bridge(link, Mark(EntryId(5, 2), 10), Mark(EntryId(5, 7), 40))
    await link.close()


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
