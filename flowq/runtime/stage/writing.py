"""What the stages and sources of one lane write with: chosen once, by how many shards the pipeline has."""

from __future__ import annotations

from flowq.broker.claims import ClaimCheck
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import deduplicating_edges, edges_fed


class Writing:
    """Makes what settles and publishes in one shard."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self._deduplicating = deduplicating_edges(plan)

    def settling(self, *, keeps_answers: bool) -> Settling:
        """What settles the deliveries of a stage."""
        plan, broker = self._plan, self._broker
        claims = ClaimCheck.of(broker, plan)
        return Settling(broker, self._deduplicating, plan.keeping, claims, keeps_answers=keeps_answers)

    def publishing(self) -> Publishing:
        """What publishes messages that no settlement carries."""
        return Publishing(self._broker)

    def backpressure(self, stage: StagePlan) -> Backpressure:
        """What tells whether a stage or source must wait for what it feeds."""
        return Backpressure(self._broker, edges_fed(self._plan, stage))
