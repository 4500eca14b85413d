"""Draws the plots of docs/performance.md, from the figures that `make bench` has measured and from those of peers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from benchmarks.workloads.throughput import TEAMS
from flowq.wording.quantities import counted
from tools.docs.peers import PLOTTED, bars_of, peers_in

_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #334155 }
.page { fill: #f8fafc } .title { font-size: 15px; font-weight: 700; fill: #0f172a } .axis { stroke: #d5dde7 }
.flowq, .one_stage { fill: #0f8378 } .loop, .three_stages { fill: #b45309 } .limit { fill: #94a3b8 }
.value { fill: #475569 }
@media (prefers-color-scheme: dark) {
  text { fill: #c9d1d9 } .page { fill: #0d1117 } .title { fill: #e6edf3 } .axis { stroke: #333b45 }
  .flowq, .one_stage { fill: #2dd4bf } .loop, .three_stages { fill: #f5a04c } .limit { fill: #6b7684 }
  .value { fill: #9aa5b1 }
}
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _GAP = 720, 210, 90, 64, 15, 14
_RATES = {
    "W1": "one stage, one worker",
    "W1x2": "one stage, two workers",
    "W2": "a handler that waits 10 ms",
    "W4": "three stages, one worker",
    "fan-out": "100 links from each page",
    "W3": "push_many of models",
}
_Groups = Sequence[tuple[str, Sequence[tuple[str, float]]]]
_KINDS = {"flowq": "flowq", "loop": "the loop that tutorials show", "limit": "the limit, without recovery"}


def plots(figures: Path, peers: Path) -> dict[str, str]:
    """The plots by name, as SVG."""
    measured: Mapping[str, Sequence[Mapping[str, float]]] = json.loads(figures.read_text())["measured"]
    rates = [
        (title, [(kind, median(one[f"{kind} rate"] for one in measured[name])) for kind in _KINDS])
        for name, title in _RATES.items()
    ]
    workers = [(counted(n, "worker"), [("flowq", median(one[f"{n}"] for one in measured["workers"]))]) for n in TEAMS]
    return {
        "throughput.svg": _bars("Messages per second, with all guarantees and without any", rates, _KINDS),
        "workers.svg": _bars("Messages per second by number of workers, on two cores", workers, {}),
        "peers.svg": _bars("Messages per second through one worker", bars_of(peers_in(peers)), PLOTTED),
    }


def _bars(title: str, groups: _Groups, legend: Mapping[str, str]) -> str:
    """Horizontal bars in groups, with their values."""
    most = max(value for _, bars in groups for _, value in bars)
    lines, y, x = list[str](), float(_TOP if legend else _TOP - 20), float(_LEFT)
    for kind, text in legend.items():
        lines.append(f'<rect class="{kind}" x="{x:g}" y="38" width="10" height="10" rx="2"/>')
        lines.append(f'<text x="{x + 15:g}" y="47">{escape(text)}</text>')
        x += 30 + 6.4 * len(text)
    for name, bars in groups:
        middle = y + len(bars) * _BAR / 2
        lines.append(f'<text x="{_LEFT - 12}" y="{middle + 4:g}" text-anchor="end">{escape(name)}</text>')
        for kind, value in bars:
            width = value / most * (_WIDTH - _LEFT - _RIGHT)
            lines.append(f'<rect class="{kind}" x="{_LEFT}" y="{y:g}" width="{width:.1f}" height="{_BAR - 2}" rx="2"/>')
            lines.append(f'<text class="value" x="{_LEFT + width + 6:.1f}" y="{y + 11:g}">{value:,.0f}</text>')
            y += _BAR
        y += _GAP
    return _svg(title, groups, lines, height=y + 4)


def _svg(title: str, groups: _Groups, lines: Sequence[str], *, height: float) -> str:
    said = "; ".join(f"{name}: " + ", ".join(f"{kind} {value:,.0f}" for kind, value in bars) for name, bars in groups)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {_WIDTH} {height:g}"'
            f' width="{_WIDTH}" height="{height:g}">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(said)}.</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height:g}" rx="8"/>',
            f'<text class="title" x="16" y="26">{escape(title)}</text>',
            f'<line class="axis" x1="{_LEFT}" y1="{_TOP - 8}" x2="{_LEFT}" y2="{height - 12:g}"/>',
            *lines,
            "</svg>\n",
        ]
    )
