"""How a settler gathers what ends alike, and divides it into script calls."""

from __future__ import annotations

import pytest

from flowq import Pipeline, stage
from flowq.broker.claims import ClaimCheck
from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.reader import Reader
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.delivery.message import Arrival, Row
from flowq.delivery.settlement import Output, Release, Succeeded
from flowq.runtime.identity import Identity
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.settler import Settler, chunks
from tests.runtime.lab import Item, Lab, items

N = 30


@stage
async def see(item: Item) -> None: ...


def rows(n: int, first: int = 0) -> list[Row]:
    return [(Arrival("a>b", "w", 1), b"%d-0" % (first + n), b"m - - 0", b"", None) for n in range(n)]


def test_many_that_end_alike_are_divided_and_those_of_one_call_with_outputs_are_not() -> None:
    call = rows(1500), Succeeded([Output("b>c", b"m1 m m 1", b"sum")])
    released = rows(1, first=9000), Release()

    found = chunks([(rows(2500), Succeeded()), released, call])

    sizes = [[len(unit) for unit, _ in chunk.settled] for chunk in found]
    assert sizes == [[1000], [1000], [500, 1], [1500]]
    assert [row for chunk in found[:3] for unit, how in chunk.settled if how == Succeeded() for row in unit] == rows(
        2500
    )
    assert found[3] == ([call], 3)


@pytest.mark.parametrize("epochs", [1, 2])
async def test_successes_that_share_an_object_are_settled_each_once_whatever_is_added_between_them(
    epochs: int, any_lab: Lab
) -> None:
    pipeline = Pipeline("p", see)
    plan, broker = pipeline.plan, any_lab.broker(pipeline)
    await Edges(broker).ensure_groups([">see"])
    await Workers(broker).register("w", {}, lease_ms=60_000, heartbeat="1")
    await any_lab.push(pipeline, see, *items(N))
    settling, in_flight = Settling(broker, {}, claims=ClaimCheck.of(broker, plan)), InFlight(Backpressure(broker, []))
    settler = Settler(plan.stage("see"), settling, Identity("w"), in_flight)
    await settling.connect()
    reader, read = Reader(broker, [">see"]), list[Row]()
    while len(read) < N:
        if read:
            broker.note_loss()  # what was read before is settled one by one, and what follows in a batch
        read += await reader.read("w", count=N // epochs, block_ms=10)
    await reader.close()
    in_flight.receive(read)

    done = Succeeded()
    for row in read[::-1]:
        settler.add([row], Succeeded((), filtered=True) if row in read[::10] else done)
    await settler.flush()
    await settling.close()

    balance = (await any_lab.balance(pipeline))["see"]
    assert (balance.ok, balance.filtered, balance.outstanding) == (N - 3, 3, 0)
    assert in_flight.n == 0
