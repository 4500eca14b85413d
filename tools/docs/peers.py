"""flowq beside other libraries, from `benchmarks/peers.json`: a table for docs/performance.md, and the bars of a plot.

The figures are of one run that measured all of them in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.marks import replaced

BEGIN, END = "<!-- peers: make pictures -->", "<!-- end of peers -->"
PLOTTED: Mapping[str, str] = {"one_stage": "one stage", "three_stages": "three stages"}
_Figures = Mapping[str, Any]


def peers_in(file: Path) -> _Figures:
    """The content of the file: `date`, `repetitions`, `machine` and `peers`."""
    return json.loads(file.read_text())


def with_peers(page: str, measured: _Figures) -> str:
    """Replace the table in a page. Raises ValueError if the marks are missing."""
    return replaced(page, BEGIN, END, _lines(measured))


def bars_of(measured: _Figures) -> Sequence[tuple[str, Sequence[tuple[str, float]]]]:
    """Messages per second by library, as groups of bars; the fastest first."""
    return [
        (peer["name"], [(workload, peer[workload]) for workload in PLOTTED if peer[workload] is not None])
        for peer in _ranked(measured)
    ]


def _ranked(measured: _Figures) -> Sequence[_Figures]:
    return sorted(measured["peers"], key=lambda peer: -peer["one_stage"])


def _lines(measured: _Figures) -> Iterator[str]:
    machine = measured["machine"]
    yield (
        f"{measured['date']}: medians of {measured['repetitions']} on {machine['cores']} cores ({machine['machine']}),"
        f" Redis {machine['redis']}, Python {machine['python']}."
    )
    yield ""
    yield "![Messages per second of flowq and other libraries](pictures/peers.svg)"
    yield ""
    yield (
        "| library | one stage | two workers | three stages | waits 10 ms | push to handler: half, 99 % within"
        " | worker per message | memory |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for peer in _ranked(measured):
        name = f"{'**flowq**' if peer['name'] == 'flowq' else peer['name']} {peer['version']}".strip()
        rates = [peer[each] for each in ("one_stage", "two_workers", "three_stages", "waits")]
        cells = [name, *("" if rate is None else f"{rate:,.0f} /s" for rate in rates)]
        within = f"{peer['p50_ms']:.1f} ms, {peer['p99_ms']:.1f} ms"
        yield f"| {' | '.join(cells)} | {within} | {peer['worker_us']:,.0f} µs | {peer['peak_mib']:.0f} MiB |"
