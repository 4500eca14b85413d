"""The words with which every drawing describes a stage and an edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flowq.delivery.policy import AckMode, Rate
from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan, type_name
from flowq.graph.kinds import Placement
from flowq.printable import printable

_PERIODS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
_MOST_KEYS = 3


def details(stage: StagePlan) -> tuple[str, ...]:
    """All that a drawing says about a stage, the most interesting first."""
    if stage.is_source:
        return ("source", *options(stage))
    batch = (f"batch {stage.batch.size}",) if stage.batch else ()
    return (f"×{stage.concurrency}", *batch, *options(stage))


def sizes(stage: StagePlan) -> tuple[str, ...]:
    """How many messages a stage handles at once, as signs: "×8", and "⊞200" for a batch."""
    if stage.is_source:
        return ()
    batch = (f"⊞{stage.batch.size}",) if stage.batch else ()
    return (f"×{stage.concurrency}", *batch)


def options(stage: StagePlan) -> tuple[str, ...]:
    """The options of a stage except its sizes, then the outputs that it drops because nothing accepts them."""
    dropped = (f"drops {type_name(route.type)}" for route in stage.routes if not route.edges)
    return tuple(map(printable, (*([] if stage.is_source else _options(stage)), *dropped)))


def _options(stage: StagePlan) -> Iterable[str]:
    if stage.rate:
        yield _rate(stage.rate)
        for key, own in list(stage.rate.keys.items())[:_MOST_KEYS]:
            yield f"{key} {_rate(own)}"
        if (more := len(stage.rate.keys) - _MOST_KEYS) > 0:
            yield f"{more} more key" + ("s" if more > 1 else "")
    # ack="first" has settled the message before the handler can fail
    retries = stage.retry.attempts > 1 and stage.ack is not AckMode.FIRST
    yield f"retry {stage.retry.attempts}" if retries else "no retry"
    if stage.dedup:
        forever = " forever" if stage.dedup.scope == "forever" else ""
        yield f"dedup {key_name(stage.dedup.by)}{' last' if stage.dedup.keep == 'last' else ''}{forever}"
    if stage.timeout_seconds:
        yield f"timeout {stage.timeout_seconds:g}s"
    if stage.ack is not AckMode.AFTER:
        yield f"ack {stage.ack}"
    if stage.handler.placement is Placement.PROCESS:
        yield "process"
    elif stage.handler.placement is Placement.LOOP and not stage.handler.shape.is_async:
        yield "inline"


def _rate(rate: Rate) -> str:
    period = _PERIODS.get(rate.per) or f"{rate.per:g}s"
    at_once = f", {rate.concurrency} at once" if rate.concurrency else ""
    return f"{rate.n:g}/{period}" + (f" per {key_name(rate.by)}" if rate.by else "") + at_once


def key_name(key: str | Callable[[Any], str]) -> str:
    """The name of a `dedup` or `by`: that of the field, or of the function ("key" for a lambda)."""
    if isinstance(key, str):
        return key
    name = getattr(key, "__name__", type(key).__name__)
    return "key" if name == "<lambda>" else name


def type_labels(plan: Plan, edge: EdgePlan) -> tuple[str, ...]:
    """The message types on an edge ("?" if it has none), marked if other edges get a copy."""
    routes = plan.stage(edge.origin).routes
    copied = [route.type for route in routes if edge.name in route.edges and len(route.edges) > 1]
    marked = (type_name(type_) + (" (copy)" if type_ in copied else "") for type_ in edge.types)
    return tuple(map(printable, marked)) or ("?",)


def edge_label(plan: Plan, edge: EdgePlan) -> str:
    """The same as one text: "Doc (copy) | Link"."""
    return " | ".join(type_labels(plan, edge))


def drawn_edges(plan: Plan) -> tuple[EdgePlan, ...]:
    """The edges between stages. Inlets are not drawn."""
    return tuple(edge for edge in plan.edges if not edge.is_inlet)
