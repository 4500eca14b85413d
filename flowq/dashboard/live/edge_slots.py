"""The slots of an edge: every text and attribute that the page shows of it."""

from __future__ import annotations

from collections.abc import Iterator

from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.forecasts import Forecast, ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.dashboard.live.shapes import METER_WIDTH, length, thickness
from flowq.dashboard.live.stage_slots import UNKNOWN, duration, rate
from flowq.graph.compilation.plan import EdgePlan
from flowq.graph.render.labels import edge_label
from flowq.wording.cause_words import forecast_words
from flowq.wording.quantities import compact, counted, size

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
        "running": _figure(now.running),
        "oldest": duration(now.oldest_seconds),
        "fill": "full" if is_full else UNKNOWN if now.fill is None else f"{now.fill:.0%}",
        "forecast": forecast_words(forecast) if forecast else UNKNOWN,
        "rate": rate(now.rate),
        "in": f"{now.in_total:,}",
        "seen": f"{now.duplicates:,}",
        "memory": size(now.memory_bytes),
    }
    if is_small:
        return texts
    limits = " or ".join(limit_words(edge)) or "no limit"
    title = f"{edge.origin} to {edge.target}: {edge_label(overview.plan, edge)}, {texts['rate']}; {limits}"
    return texts | {"meter": length(now.fill or 0.0, METER_WIDTH), "title": title}


def limit_words(edge: EdgePlan) -> Iterator[str]:
    """How many messages, and how much memory, an edge has room for before it holds back what feeds it."""
    if edge.maxsize:
        yield counted(edge.maxsize, "message")
    if edge.maxsize_bytes:
        yield size(edge.maxsize_bytes)


def _level(edge: EdgePlan, now: EdgeOverview, forecast: Forecast | None, is_full: bool) -> str:
    if is_full:
        return "full"
    if not now.outstanding:
        return "none"
    fills_up = forecast is not None and forecast.kind is ForecastKind.FULL_IN
    return "high" if not edge.feedback and (fills_up or (now.fill or 0.0) >= _NEARLY_FULL) else "some"


def _figure(n: int) -> str:
    return f"{n:,}" if n <= _MOST_DIGITS else compact(n)
