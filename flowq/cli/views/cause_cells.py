"""Causes and forecasts on a terminal: an icon, a word and a colour, always together."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.forecasts import Forecast, ForecastKind, most_urgent
from flowq.broker.inspection.overview import Overview
from flowq.graph.compilation.plan import StagePlan
from flowq.wording.cause_words import cause_line, forecast_words

ICONS: Mapping[CauseKind, tuple[str, str]] = {
    CauseKind.PAUSED: ("‖", "yellow"),
    CauseKind.HELD_BACK: ("⇤", "magenta"),
    CauseKind.NO_WORKER: ("!", "bold red"),
    CauseKind.ON_HOLD: ("⧗", "bright_magenta"),
    CauseKind.PACED: ("◔", "bright_blue"),
    CauseKind.BUSY: ("▲", "yellow"),
    CauseKind.READING: ("→", "green"),
    CauseKind.KEEPS_UP: ("✓", "green"),
    CauseKind.IDLE: ("○", "dim"),
    CauseKind.DONE: ("●", "dim"),
}
"""Each with its style."""

_STYLES: Mapping[ForecastKind, str] = {
    ForecastKind.FULL: "magenta",
    ForecastKind.FULL_IN: "yellow",
    ForecastKind.STALLED: "yellow",
    ForecastKind.GROWING: "",
}


def cause_text(cause: Cause) -> Text:
    """A cause with its icon, in its colour."""
    icon, style = ICONS[cause.kind]
    return Text(f"{icon} {cause_line(cause)}", style)


def forecast_text(forecast: Forecast) -> Text:
    """A forecast in words, in its colour; one that needs no attention is dim."""
    return Text(forecast_words(forecast), _STYLES.get(forecast.kind, "dim"))


def outlook_cells(overview: Overview, stage: StagePlan) -> dict[str, Text]:
    """The cause of a stage and the forecast of its edges, by title: of the one that is full first or empty last.

    That an edge is empty now is no forecast: the numbers of the stage show it.
    """
    cells = {"cause": cause_text(overview.causes[stage.name])}
    known = [overview.forecasts[edge] for edge in stage.in_edges if edge in overview.forecasts]
    forecast = most_urgent(each for each in known if each.kind is not ForecastKind.EMPTY)
    if forecast is not None:
        cells["forecast"] = forecast_text(forecast)
    return cells
