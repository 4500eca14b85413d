"""An entry that was deleted while it was pending: no handler is called for it."""

from __future__ import annotations

from flowq import Pipeline, stage
from flowq.broker.message_ids import MessageIds
from flowq.broker.records import deliveries_of
from flowq.delivery.settlement import Undecodable
from flowq.graph.compilation.routing import OutputRouter
from flowq.runtime.handlers.handling import Handling
from flowq.world import REAL


async def test_a_stage_of_bytes_is_not_given_an_empty_body_for_an_entry_that_is_gone() -> None:
    called_with: list[bytes] = []

    @stage
    async def keep(body: bytes) -> None:
        called_with.append(body)

    plan = Pipeline("p", keep).plan
    keeping = plan.stage("keep")
    handling = Handling(keeping, plan, OutputRouter(keeping, plan, MessageIds(REAL).next), resources={})
    gone, empty = deliveries_of(">keep", [[b"1-1", None], [b"1-2", [b"b", b""]]], "worker", 0)

    assert isinstance(await handling.handle(gone), Undecodable)
    assert called_with == []
    await handling.handle(empty)
    assert called_with == [b""]
