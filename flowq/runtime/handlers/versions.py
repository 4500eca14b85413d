"""Two versions of a pipeline at once: whether what this one cannot read is meant for the other."""

from __future__ import annotations

import asyncio
import logging
import time
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
    """Compares the plan of this process with the one on record, which is that of the run that began last.

    Redis is asked only when a message could not be read: in good times this costs nothing.
    """

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self._recorded: Mapping[str, RecordedEdge] = {}
        self._read_at = float("-inf")
        self._told: set[str] = set()

    async def judge(self, error: Exception, delivery: Delivery) -> Undecodable | Unfamiliar:
        """Unfamiliar when its type is not known here, or when a later run gave the edge another schema."""
        if isinstance(error, NotAMessage):  # to every version
            return Undecodable(error)
        if not isinstance(error, UnknownType) and not await self._has_changed(delivery.edge):
            return Undecodable(error)
        if delivery.edge not in self._told:
            self._told.add(delivery.edge)
            log.warning("%s: leaving to other versions for %g minutes what is not known here: %s",
                        delivery.edge, _MINUTES, getattr(error, "message", error))  # fmt: skip
        return Unfamiliar(error, delivery.age_seconds(time.time()))

    async def _has_changed(self, edge: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._read_at > _TRUSTED_SECONDS:  # many bad messages in a row do not ask for each
            try:
                edges = RecordedPlan(self._broker).edges
                self._recorded = await retry_until_available(edges, what="reading the plan on record")
            except BrokerRefused:
                return False
            self._read_at = now
        recorded = self._recorded.get(edge)
        return recorded is not None and recorded.schema not in ("", schema_digest(self._accepts(edge)))

    def _accepts(self, edge: str) -> object:
        return self._plan.stage(self._plan.edge_by_name[edge].target).accepts
