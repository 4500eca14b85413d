"""What the stages and sources of one lane write with, when the pipeline has several shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flowq.broker.claims import ClaimCheck
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.flow_control.backpressure_of_shards import BackpressureOfShards
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.shards.outbox import OnSent
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.broker.shards.settling_out import SettlingOut
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import edges_fed
from flowq.graph.kinds import PlacedBy
from flowq.runtime.stage.writing import Writing


class ShardedWriting(Writing):
    """Makes what settles and publishes in one shard, to others through its outboxes.

    `on_sent` hears of each entry. `is_clogged` tells whether a shard takes nothing of what is in the outboxes.
    """

    def __init__(self, plan: Plan, broker: Broker, on_sent: OnSent, is_clogged: Callable[[], bool]) -> None:
        super().__init__(plan, broker)
        self._on_sent = on_sent
        self._is_clogged = is_clogged
        self._backpressures: list[Backpressure] = []

    def settling(self, *, keeps_answers: bool) -> Settling:
        """As in `Writing`."""
        plan, broker = self._plan, self._broker
        claims = ClaimCheck.of(broker, plan)
        return SettlingOut(
            broker, self._deduplicating, plan.keeping, claims, keeps_answers=keeps_answers, on_sent=self._on_sent
        )

    def passing_on(self) -> SettlingOut:
        """What settles messages that only go on to another shard: nothing of them is kept, or comes to its end."""
        return SettlingOut(self._broker, self._deduplicating, on_sent=self._on_sent)

    def publishing(self) -> Publishing:
        """As in `Writing`."""
        return PublishingOut(self._broker, on_sent=self._on_sent)

    def backpressure(self, stage: StagePlan) -> Backpressure:
        """As in `Writing`."""
        plan = self._plan
        is_clogged = self._is_clogged if plan.edges_out_of(stage.name) else bool
        edges = edges_fed(plan, stage)
        stays = {PlacedBy.HERE} if stage.is_source else {PlacedBy.HERE, PlacedBy.NOTHING}
        leaving = {edge.name for edge in edges if plan.stage(edge.target).placed_by not in stays}
        is_even = all(edge.name in leaving and edge != plan.edge_by_name[edge.name] for edge in edges)
        backpressure = BackpressureOfShards(
            self._broker, edges, is_clogged, leaving=leaving, n_shares=plan.shards if is_even else 1
        )
        self._backpressures.append(backpressure)
        return backpressure

    def note(self, outstanding: Mapping[str, int]) -> None:
        """Note how many messages are outstanding on edges of other shards, by address."""
        for backpressure in self._backpressures:
            backpressure.note(outstanding)
