"""Overviews of pipelines that have never run, and the same with other figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowq.broker.inspection.causes import Cause
from flowq.broker.inspection.forecasts import Forecast
from flowq.broker.inspection.overview import Overview
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector

_SEEN: dict[str, Overview] = {}


def never_run(plan: Plan) -> Overview:
    """The overview of a pipeline that has never run."""

    async def look() -> Overview:
        async with Inspector(plan, redis="memory") as inspector:
            return await inspector.overview()

    if plan.name not in _SEEN:
        _SEEN[plan.name] = asyncio.run(look())
    return _SEEN[plan.name]


def with_stage(overview: Overview, stage: str, **figures: Any) -> Overview:
    """The same with other figures of one stage."""
    return replace(overview, stages={**overview.stages, stage: replace(overview.stages[stage], **figures)})


def with_edge(overview: Overview, edge: str, **figures: Any) -> Overview:
    """The same with other figures of one edge."""
    return replace(overview, edges={**overview.edges, edge: replace(overview.edges[edge], **figures)})


def with_outlook(
    overview: Overview,
    *,
    causes: Mapping[str, Cause] | None = None,
    forecasts: Mapping[str, Forecast] | None = None,
    full: frozenset[str] = frozenset(),
) -> Overview:
    """The same with other causes, forecasts and full edges."""
    outlook = replace(
        overview.outlook, causes={**overview.causes, **(causes or {})}, forecasts=forecasts or {}, full=full
    )
    return replace(overview, outlook=outlook)
