"""The slots of an edge: every text and attribute that the page shows of it."""

from __future__ import annotations

from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.forecasts import Forecast, ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.dashboard.live.shapes import METER_WIDTH, length, thickness
from flowq.dashboard.live.stage_slots import UNKNOWN, duration, rate
from flowq.graph.compilation.plan import EdgePlan
from flowq.wording.cause_words import forecast_words
from flowq.wording.quantities import compact

_NEARLY_FULL = 0.8
_MOST_DIGITS = 99_999


def edge_slots(overview: Overview, edge: EdgePlan, *, is_small: bool) -> dict[str, str]:
    """The slots of one edge without their prefix. is_small: its card has one number only."""
    now, forecast = overview.edges[edge.name], overview.forecasts.get(edge.name)
    is_full = edge.name in overview.full
    texts = {
        "stroke": thickness(now.outstanding, feedback=edge.feedback),
        "level": _level(edge, now, forecast, is_full),
        "n": compact(now.outstanding),
        "waiting": _figure(now.waiting),
        "delayed": _figure(now.delayed),
        "oldest": duration(now.oldest_seconds),
        "fill": "full" if is_full else UNKNOWN if now.fill is None else f"{now.fill:.0%}",
        "forecast": forecast_words(forecast) if forecast else UNKNOWN,
    }
    if is_small:
        return texts
    return texts | {
        "meter": length(now.fill or 0.0, METER_WIDTH),
        "in": f"{now.in_total:,}",
        "seen": f"{now.duplicates:,}",
        "rate": rate(now.rate),
        "running": _figure(now.running),
    }


def _level(edge: EdgePlan, now: EdgeOverview, forecast: Forecast | None, is_full: bool) -> str:
    if is_full:
        return "full"
    if not now.outstanding:
        return "none"
    fills_up = forecast is not None and forecast.kind is ForecastKind.FULL_IN
    return "high" if not edge.feedback and (fills_up or (now.fill or 0.0) >= _NEARLY_FULL) else "some"


def _figure(n: int) -> str:
    return f"{n:,}" if n <= _MOST_DIGITS else compact(n)
