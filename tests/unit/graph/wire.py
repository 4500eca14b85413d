"""Sends values from one stage to the next without Redis: what a worker does between a handler and the next."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flowq import Pipeline, stage
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.graph.compilation.plan import Plan
from flowq.graph.compilation.routing import OutputRouter
from flowq.runtime.handlers.handling import Handling

ENTERING = Delivery(Arrival(">give", "w", 0), b"1-0", Header.entering("m0").encode(), b"")


def pipeline_of(given: Any, *taken: Any) -> Pipeline:
    """A stage that gives values of one type, and one for each type that is taken. Raises PipelineError."""

    async def give(n: int) -> None: ...

    give.__annotations__["return"] = given
    takers = [_taker(f"take_{index}", type_) for index, type_ in enumerate(taken)]
    route: Any = takers[0]
    for taker in takers[1:]:
        route = route | taker
    return Pipeline("law", stage(give) >> route)


def _taker(name: str, type_: Any) -> Any:
    async def take(message: int) -> None: ...

    take.__annotations__["message"] = type_
    return stage(name=name)(take)


class Wire:
    """The way of a value from the stage that gives it to those that take it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        numbers = itertools.count(1)
        self._next_id: Callable[[], bytes] = lambda: b"m%d" % next(numbers)
        self._router = OutputRouter(plan.stage("give"), plan, self._next_id)

    @classmethod
    def between(cls, given: Any, *taken: Any) -> Wire:
        """Raises PipelineError for what is refused at import."""
        return cls(pipeline_of(given, *(taken or (given,))).plan)

    def sent(self, value: Any) -> list[Delivery]:
        """A value as it lies on the edges. Raises EncodeError."""
        outputs = self._router.outputs([value], ENTERING)
        return [Delivery(Arrival(each.edge, "w", 0), b"2-0", each.header, each.body) for each in outputs]

    def received(self, delivery: Delivery) -> Any:
        """What the handler of the next stage is called with."""
        stage_plan = self._plan.stage(self._plan.edge_by_name[delivery.edge].target)
        router = OutputRouter(stage_plan, self._plan, self._next_id)
        return Handling(stage_plan, self._plan, router, resources={}).decode(delivery)

    def across(self, value: Any) -> tuple[str, Any]:
        """The stage that a value arrives at, and what arrives. Raises EncodeError."""
        (delivery,) = self.sent(value)
        return self._plan.edge_by_name[delivery.edge].target, self.received(delivery)
