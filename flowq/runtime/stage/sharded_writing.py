"""What the stages and sources of one lane write with, when the pipeline has several shards."""

from __future__ import annotations

from flowq.broker.claims import ClaimCheck
from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.shards.outbox import OnSent
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.broker.shards.settling_out import SettlingOut
from flowq.graph.compilation.plan import Plan
from flowq.runtime.stage.writing import Writing


class ShardedWriting(Writing):
    """Makes what settles and publishes in one shard, to others through its outboxes. `on_sent` hears of each entry."""

    def __init__(self, plan: Plan, broker: Broker, on_sent: OnSent) -> None:
        super().__init__(plan, broker)
        self._on_sent = on_sent

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
