"""Messages as their stages would receive them, from what is stored or was sent."""

from __future__ import annotations

from typing import Any

from flowq.delivery.edge import Edge
from flowq.delivery.encoding.codec import decoder
from flowq.delivery.message import Delivery
from flowq.errors import DecodeError
from flowq.graph.compilation.plan import Plan
from flowq.graph.compilation.stage_types import StageTypes


class Decoding:
    """Decodes for all stages of one plan. What is no message of its stage is returned as bytes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._types: dict[str, StageTypes] = {}

    def message(self, delivery: Delivery) -> Any:
        """The message of a delivery, a new object for each call: handlers may change theirs."""
        stage = Edge.parse(delivery.edge).target
        tag = delivery.header.type_tag
        try:
            content = delivery.content
        except DecodeError:
            return delivery.body
        try:
            decode = self._types_of(stage).decoder(tag) if tag else None
            return (decode or decoder(self._plan.stage(stage).accepts))(content)
        except DecodeError:
            return content

    def _types_of(self, stage: str) -> StageTypes:
        if stage not in self._types:
            self._types[stage] = StageTypes(self._plan.stage(stage), self._plan)
        return self._types[stage]
