"""Cases of the scripts on the path of a message."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.edges import Edges
from flowq.broker.publishing import CursorMove, Parcel, Publishing, Refused
from flowq.broker.runs import Runs
from flowq.broker.settling import Settling
from flowq.delivery.policy import DedupMemory, Keep
from tests.conformance.paced import given
from tests.conformance.script_cases.case import NEW, Lab, calls
from tests.conformance.worker import EDGES, IN, OUT, STAGES, buried, output, released, retried
from tests.conformance.worker import done as handled


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


@calls(scripts.PROMOTE)
async def _(lab: Lab) -> None:
    for i in range(3):
        await lab.redis(b"ZADD", lab.keys.delayed(IN), i, b"m%d" % i)
        await lab.redis(b"HSET", lab.keys.delayed_bodies(IN), b"m%d" % i, b"m - - 0\nbody")
    await Edges(lab.worker.broker).promote([IN], limit=1)


@calls(scripts.CREATE_GROUPS)
async def _(lab: Lab) -> None:
    await Edges(lab.worker.broker).ensure_groups([*EDGES, NEW])


@calls(scripts.START_RUN)
async def _(lab: Lab) -> None:
    await lab.redis(b"HSET", lab.keys.stats, b"ok:parse", 5)
    broker = lab.worker.broker
    await Runs(broker).begin("new", sources=["source"], signature="s", edges=EDGES, stages=STAGES, fresh=True)
    await lab.worker.publish(b"of another worker")
