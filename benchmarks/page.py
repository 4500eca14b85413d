"""Inserts figures into a Markdown page between two marks: a table, and its plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.figures import Result
from benchmarks.marks import replaced
from benchmarks.report import goal_text, number, ratio_to
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.growth import HUGE

BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"
_TITLES = {workload.name: workload.title for workload in (*WORKLOADS, *HUGE)}


def with_figures(page: str, about: Mapping[str, Any], reps: int, results: Sequence[Result]) -> str:
    """Replace the figures of a page. Raises ValueError if the marks are missing."""
    return replaced(page, BEGIN, END, _lines(about, reps, results))


def _lines(about: Mapping[str, Any], reps: int, results: Sequence[Result]) -> Iterator[str]:
    yield (
        f"Medians of {reps} on {about['cores']} cores ({about['machine']}), Redis {about['redis']},"
        f" Python {about['python']}. Ratios are taken within a repetition."
    )
    yield ""
    yield "![Messages per second: flowq and both baselines](pictures/throughput.svg)"
    yield ""
    yield "| figure | flowq | x loop | x limit | goal |"
    yield "|---|--:|--:|--:|---|"
    for name, group in groupby(results, key=lambda result: result.workload):
        yield f"| **{name}**: {_TITLES[name]} | | | | |"
        for result in group:
            value = f"{number(result.value)} {result.figure.unit}".strip()
            ratios = f"{ratio_to('loop', result)} | {ratio_to('limit', result)}"
            yield f"| {result.figure.title} | {value} | {ratios} | {goal_text(result)} |"
    yield ""
    yield "![Messages per second by number of workers](pictures/workers.svg)"
