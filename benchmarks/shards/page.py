"""Shows what was measured with shards: as tables in Markdown, for people and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import Measured
from benchmarks.marks import replaced
from benchmarks.report import number
from benchmarks.shards.measuring import MOST_SERVERS, PER_SECOND, SHARDS, WORKERS

BEGIN, END = "<!-- shards: make bench-shards -->", "<!-- end of shards -->"
_SERVERS = range(1, MOST_SERVERS + 1)
_KINDS = {
    "apart": "not divided: a pipeline on each server",
    "stays": "divided, nothing crosses",
    "crosses": "divided, most crosses",
}
_PLACES = {"in the workers": "worker", "in all servers": "redis", "in the busiest server": "busiest"}
_LEAST = {"stays": 0.9, "crosses": 0.75}  # of the capacity of as many servers
MOST_MS_LONGER = 3.0


def with_tables(page: str, tables: str) -> str:
    """Replace the figures of a page. Raises ValueError if the marks are missing."""
    return replaced(page, BEGIN, END, [tables])


def tables_of(about: Mapping[str, Any], reps: int, costs: Measured, waits: Measured) -> str:
    """Both tables. The values are medians."""
    return "\n".join([*_title(about, reps), "", *_costs(costs), "", *_waits(waits)])


def _title(about: Mapping[str, Any], reps: int) -> Iterator[str]:
    yield (
        f"Medians of {reps} on {about['cores']} cores ({about['machine']}), Redis {about['redis']},"
        f" Python {about['python']}; {SHARDS} shards, {WORKERS} workers. Ratios are taken within a repetition."
    )


def _costs(found: Measured) -> Iterator[str]:
    yield f"| a crawl | {' | '.join(f'{n} servers' if n > 1 else '1 server' for n in _SERVERS)} |"
    yield f"|---|{'--:|' * MOST_SERVERS}"
    for kind, title in _KINDS.items():
        yield f"| **{title}** |{' |' * MOST_SERVERS}"
        if kind == "crosses":
            yield _row("messages that cross, a hop", [number(found[f"{kind} {n} crossed"]) for n in _SERVERS])
        for what, key in _PLACES.items():
            yield _row(f"a hop {what}", [f"{number(found[f'{kind} {n} {key}'])} µs" for n in _SERVERS])
        if kind in _LEAST:
            yield _row("capacity of the servers", [_capacity(kind, n, found) for n in _SERVERS])
    yield f"| **one message that crosses** |{' |' * MOST_SERVERS}"
    for what, key in (("in Redis", "redis"), ("in the workers", "worker")):
        yield _row(f"more {what}", [f"{number(found[f'crossing {n} {key}'])} µs" for n in _SERVERS])


def _capacity(kind: str, n: int, found: Measured) -> str:
    value, least = found[f"{kind} {n} capacity"], _LEAST[kind] * n
    return f"{value:.2f}, {'met' if value >= least else 'missed'} >= {least:.2f}"


def _waits(found: Measured) -> Iterator[str]:
    yield f"| {PER_SECOND} messages a second, from push to the second stage | no shards | {SHARDS} shards | longer by |"
    yield "|---|--:|--:|--:|"
    for copies, title in (("alone", "without replicas"), ("replica", "a replica of each server")):
        for cut, share in (("p50", "half"), ("p99", "99 %")):
            values = [f"{found[f'{copies} {n} {cut}']:.1f} ms" for n in (1, SHARDS)]
            longer = f"{found[f'{copies} more {cut}']:.1f} ms"
            if cut == "p50":
                is_met = found[f"{copies} more {cut}"] <= MOST_MS_LONGER
                longer += f", {'met' if is_met else 'missed'} <= {MOST_MS_LONGER:g}"
            yield _row(f"{title}: {share} within", [*values, longer])


def _row(title: str, values: list[str]) -> str:
    return f"| {title} | {' | '.join(values)} |"
