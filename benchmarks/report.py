"""Shows results: a table for people, JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from benchmarks.figures import Measured, Result, Workload


def machine(redis_version: str) -> dict[str, Any]:
    """The facts on which the figures depend."""
    return {
        "redis": redis_version,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


BASELINES = ("loop", "limit")
WIDTH = 116


def table_of(workload: Workload, results: Sequence[Result]) -> Table:
    """One workload: medians, the range of the repetitions, ratios within a repetition, goals."""
    table = Table(
        title=f"[bold]{workload.name}[/]  {workload.title}", title_justify="left", title_style="", width=WIDTH
    )
    table.add_column("median", ratio=1)
    table.add_column("flowq", justify="right", width=12)
    table.add_column("range", justify="right", style="dim", width=18)
    for baseline in BASELINES:
        table.add_column(f"x {baseline}", justify="right", width=7)
    table.add_column("goal", width=32)
    for result in results:
        figure = result.figure
        table.add_row(
            figure.title,
            f"{number(result.value)} {figure.unit}".strip(),
            f"{number(min(result.values))} - {number(max(result.values))}",
            *(ratio_to(baseline, result) for baseline in BASELINES),
            Text(goal_text(result), style="" if result.is_met is not False else "red"),
        )
    return table


def ratio_to(baseline: str, result: Result) -> str:
    """The ratio to the baseline; empty if there is none."""
    ratio = next((ratio for other, ratio in result.ratios.items() if other.startswith(baseline)), None)
    return "" if ratio is None else number(ratio)


def goal_text(result: Result) -> str:
    """Whether the goal is met, and the ratio; empty without a goal."""
    goal = result.figure.goal
    if goal is None:
        return ""
    found = f", is {number(result.ratios[goal.times])}" if goal.times else ""
    return f"{'met' if result.is_met else 'missed'} {goal.text(result.figure.unit)}{found}"


def number(value: float) -> str:
    """Format with significant digits only.

    >>> number(93482.3), number(12.345), number(0.8333), number(0)
    ('93,482', '12.3', '0.83', '0')
    """
    if not value:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_json(
    about: Mapping[str, Any], repetitions: Mapping[str, Sequence[Measured]], results: Sequence[Result]
) -> dict[str, Any]:
    """All measurements, for JSON."""
    return {
        "machine": dict(about),
        "figures": [
            {
                "workload": result.workload,
                "figure": result.figure.title,
                "unit": result.figure.unit,
                "median": result.value,
                "repetitions": list(result.values),
                "ratios": dict(result.ratios),
                "goal": result.figure.goal.text(result.figure.unit) if result.figure.goal else None,
                "met": result.is_met,
            }
            for result in results
        ],
        "measured": {name: [dict(measured) for measured in each] for name, each in repetitions.items()},
    }
