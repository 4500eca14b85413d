"""A move of shards whose replica confirms nothing waits for it, says so, and does the rest when it confirms again."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Pipeline, stage
from flowq.broker.client.connection import UrlDialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.migration.resharding import Resharding
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import WrongLayout, agree_on_layout, read_layout
from tests.conformance.worker import output
from tests.eventually import eventually
from tests.faults.deployments import Node, primary_with_replica

N = 20


@stage(place=str)
async def take(number: int) -> None: ...


def n_confirmations_asked_for(node: Node) -> int:
    calls: int = node.client.info("commandstats")["cmdstat_wait"]["calls"]
    return calls


async def test_a_move_waits_for_a_replica_that_hangs_and_says_so(
    unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    plans = [Pipeline("moving", take, shards=n).plan for n in (1, 4)]
    with primary_with_replica() as (primary, replica):
        home = with_shards(Broker(UrlDialer(primary.url), Keys(unique_namespace, "moving")), 1)
        await Edges(home).ensure_groups([">take"])
        await RecordedPlan(home).record(plans[0])
        await Publishing(home).publish(">take", [output(">take", b"%d" % n) for n in range(N)])
        replica.freeze()
        moving = asyncio.create_task(Resharding(home, plans[1]).carry_out())

        await eventually(lambda: "has not confirmed what was moved" in caplog.text)
        before = n_confirmations_asked_for(primary)
        await eventually(lambda: moving.done() or n_confirmations_asked_for(primary) > before + 12)
        assert not moving.done(), "it goes on waiting after it has said so"
        assert await home.answer(b"XLEN", home.keys.edge(">take")) == N, "nothing moves while that may be forgotten"
        with pytest.raises(WrongLayout):
            await agree_on_layout(home, 4)

        replica.thaw()
        await moving
        assert await read_layout(home) == 4
        waiting = [await each.answer(b"XLEN", each.keys.edge(">take")) for each in home.shards]
        assert sum(waiting) == N
        assert waiting[0] < N
        await close_shards(home)
