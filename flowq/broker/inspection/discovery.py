"""Finds the pipelines of a Redis, and their shape, from what runs have recorded: none of their code is needed."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from flowq.broker.client.topology import ClusterDialer
from flowq.broker.keys import is_name
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.stored import text_in
from flowq.errors import BrokerUnavailable, Place, UsageError
from flowq.graph.compilation.plan import EdgePlan, Handler, Plan, StagePlan
from flowq.graph.kinds import Kind, Placement, Shape

_PER_CALL = 1000


class Discovery:
    """What runs have recorded in the namespace of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def pipelines(self) -> list[str]:
        """The names of all pipelines that have run in this namespace, whichever pipeline the broker is of.

        Scans all keys of the server, so do not call it every second; in a Cluster, those of each primary. One that does
        not answer is passed over. Raises BrokerUnavailable if none does, BrokerRefused.
        """
        dialer = self._broker.dialer
        if not isinstance(dialer, ClusterDialer):
            return sorted(await self._names(self._broker))
        nodes = [Broker(each, self._broker.keys, world=self._broker.world) for each in await dialer.primaries()]
        try:
            found = await asyncio.gather(*(self._names(node) for node in nodes), return_exceptions=True)
        finally:
            await asyncio.gather(*(node.close() for node in nodes))
        errors = [each for each in found if isinstance(each, BaseException)]
        if serious := [
            error for error in errors if len(errors) == len(nodes) or not isinstance(error, BrokerUnavailable)
        ]:
            raise serious[0]
        return sorted({name for names in found if not isinstance(names, BaseException) for name in names})

    async def _names(self, broker: Broker) -> set[str]:
        """The names of the pipelines of which this server holds shard 0."""
        namespace = broker.keys.namespace
        is_plan = re.compile(rf"{re.escape(namespace)}:\{{(.+)\}}:plan").fullmatch
        names: set[str] = set()
        cursor = b"0"
        while True:
            command = (b"SCAN", cursor, b"MATCH", f"{namespace}:{{*}}:plan", b"COUNT", _PER_CALL, b"TYPE", b"hash")
            (reply,) = await broker.ask([command])
            if isinstance(reply, Exception):
                return names
            cursor, keys = reply
            names |= {found[1] for key in keys if (found := is_plan(text_in(key))) and is_name(found[1])}
            if int(cursor) == 0:
                return names

    async def plan(self) -> Plan:
        """The stages and edges of the pipeline, those of earlier versions included, without their handlers."""
        edges: list[EdgePlan] = []
        for name in sorted(await RecordedPlan(self._broker).edges()):
            origin, target = Edge.parse(name)
            edges.append(EdgePlan(name, origin, target))
        accepts_messages = {edge.target for edge in edges}
        names = dict.fromkeys(name for edge in edges for name in (edge.origin, edge.target) if name)
        stages = [
            StagePlan(
                name,
                Kind.STAGE if name in accepts_messages else Kind.SOURCE,
                _ELSEWHERE,
                in_edges=tuple(edge.name for edge in edges if edge.target == name),
            )
            for name in names
        ]
        return Plan(self._broker.keys.pipeline, tuple(stages), tuple(edges), shards=len(self._broker.shards))


def _not_here(*_: Any, **__: Any) -> None:
    raise UsageError("the plan recorded in Redis has no code to run", hint="import the pipeline from its file")


_ELSEWHERE = Handler(_not_here, Shape.FUNCTION, Placement.LOOP, Place("", 0))
