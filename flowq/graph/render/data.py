"""A plan as JSON, for programs."""

from __future__ import annotations

from typing import Any

from flowq.delivery.policy import Rate
from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan, type_name
from flowq.graph.render.labels import drawn_edges, key_name
from flowq.printable import json_text


def json(plan: Plan) -> str:
    """Write a plan as one JSON object. Keys are only ever added; a value that does not apply is null.

    - `pipeline`: its name.
    - `stages`, in topological order: `name`; `kind` ("source", "stage", "sink"); `accepts` and `emits`, lists
      of type names; `concurrency`; `batch` {size, linger_seconds, max_bytes}; `retry` {attempts, base_seconds,
      max_seconds, jitter, on, give_up_on}; `rate` {n, per_seconds, by, burst, concurrency, adaptive, keys},
      `keys` being {n, per_seconds, burst, concurrency} for each value of `by` that has a rate of its own; `dedup`,
      the name of the field or function; `dedup_scope` ("run", "forever"); `dedup_ttl_seconds`; `dedup_keep`
      ("first", "last"); `ack`; `timeout_seconds`; `max_bytes`; `claim_above`; `runs_on` ("loop", "thread",
      "process"); `resources`, the names of their parameters; `routes`, a list of {type, edges}; `place` {file,
      line}. A source accepts no messages, so the values that say how it would handle them are null.
    - `edges` between stages: `name`, `from`, `to`, `types`, `feedback`, `maxsize`, `maxsize_bytes`.
    - `warnings`: `code`, `text`, `place`, `details`, `hint`, `severity`.
    """
    document = {
        "pipeline": plan.name,
        "stages": [_stage(stage) for stage in plan.stages],
        "edges": [_edge(edge) for edge in drawn_edges(plan)],
        "warnings": plan.warnings,
    }
    return json_text(document, indent=True) + "\n"


def _stage(stage: StagePlan) -> dict[str, Any]:
    taking = not stage.is_source
    return {
        "name": stage.name,
        "kind": stage.kind,
        "accepts": [type_name(type_) for type_ in stage.accepted],
        "emits": [type_name(type_) for type_ in stage.emits],
        "concurrency": stage.concurrency if taking else None,
        "batch": stage.batch,
        "retry": _retry(stage) if taking else None,
        "rate": _rate(stage),
        "dedup": key_name(stage.dedup.by) if stage.dedup else None,
        "dedup_scope": stage.dedup.scope if stage.dedup else None,
        "dedup_ttl_seconds": stage.dedup.ttl_seconds if stage.dedup else None,
        "dedup_keep": stage.dedup.keep if stage.dedup else None,
        "ack": stage.ack if taking else None,
        "timeout_seconds": stage.timeout_seconds,
        "max_bytes": stage.max_bytes if taking else None,
        "claim_above": stage.claim_above,
        "runs_on": stage.handler.placement,
        "resources": list(stage.handler.resources),
        "routes": [{"type": type_name(route.type), "edges": route.edges} for route in stage.routes],
        "place": stage.place,
    }


def _retry(stage: StagePlan) -> dict[str, Any]:
    retry = stage.retry
    return {
        "attempts": retry.attempts,
        "base_seconds": retry.backoff.base_seconds,
        "max_seconds": retry.backoff.max_seconds,
        "jitter": retry.backoff.full_jitter,
        "on": [type_name(error) for error in retry.on],
        "give_up_on": [type_name(error) for error in retry.give_up_on],
    }


def _rate(stage: StagePlan) -> dict[str, Any] | None:
    if not (rate := stage.rate):
        return None
    return {
        **_figures(rate),
        "by": key_name(rate.by) if rate.by else None,
        "adaptive": rate.adaptive,
        "keys": {key: _figures(own) for key, own in rate.keys.items()},
    }


def _figures(rate: Rate) -> dict[str, Any]:
    return {"n": rate.n, "per_seconds": rate.per, "burst": rate.burst, "concurrency": rate.concurrency}


def _edge(edge: EdgePlan) -> dict[str, Any]:
    return {
        "name": edge.name,
        "from": edge.origin,
        "to": edge.target,
        "types": [type_name(type_) for type_ in edge.types],
        "feedback": edge.feedback,
        "maxsize": edge.maxsize,
        "maxsize_bytes": edge.maxsize_bytes,
    }
