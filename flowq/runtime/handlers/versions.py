"""Two versions of a pipeline at once: whether a message that this one cannot read is meant for the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.migration.recorded_plan import RecordedEdge, RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.delivery.encoding.codec import schema_digest
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import ROLLOUT_SECONDS, Undecodable, Unfamiliar
from flowq.errors import BrokerRefused, NotAMessage, UnknownType
from flowq.graph.compilation.plan import Plan

log = logging.getLogger("flowq.runtime")

_TRUSTED_SECONDS = 0.2
_MINUTES = ROLLOUT_SECONDS / 60


class Versions:
    """Compares the plan of this process with the recorded one, which is that of the run started last.

    Redis is asked only when a message cannot be read: otherwise this costs nothing.
    """

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self._recorded: Mapping[str, RecordedEdge] = {}
        self._read_at = float("-inf")
        self._reported: set[str] = set()

    async def judge(self, error: Exception, delivery: Delivery) -> Undecodable | Unfamiliar:
        """Unfamiliar if its type is unknown to this version, or if a later run has changed the schema of the edge."""
        if isinstance(error, NotAMessage):  # to every version
            return Undecodable(error)
        if not isinstance(error, UnknownType) and not await self._has_changed(delivery.edge):
            return Undecodable(error)
        if delivery.edge not in self._reported:
            self._reported.add(delivery.edge)
            log.warning("%s: leaving unreadable messages to other versions for %g minutes: %s",
                        delivery.edge, _MINUTES, getattr(error, "message", error))  # fmt: skip
        return Unfamiliar(error, delivery.age_seconds(self._broker.world.time()))

    async def _has_changed(self, edge: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._read_at > _TRUSTED_SECONDS:  # not for each of many bad messages in a row
            try:
                edges = RecordedPlan(self._broker).edges
                self._recorded = await retry_until_available(
                    self._broker.world, edges, what="reading the recorded plan"
                )
            except BrokerRefused:
                return False
            self._read_at = now
        recorded = self._recorded.get(edge)
        return recorded is not None and recorded.schema not in ("", schema_digest(self._accepts(edge)))

    def _accepts(self, edge: str) -> object:
        return self._plan.stage(self._plan.edge_by_name[edge].target).accepts
