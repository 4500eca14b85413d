"""Draws what follows from files of the project alone, pictures and a table of docs/performance.md: `make pictures`."""

from __future__ import annotations

import sys
from pathlib import Path

from flowq.graph.render.svg import svg
from pipelines.scrape import scrape
from tools.docs.peers import peers_in, with_peers
from tools.docs.plots import plots

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
FIGURES = ROOT / "benchmarks" / "figures.json", ROOT / "benchmarks" / "peers.json"
PAGE = ROOT / "docs" / "performance.md"


def pictures() -> dict[str, str]:
    """All of them by name, as SVG."""
    return {"graph.svg": svg(scrape.plan), **plots(*FIGURES)}


def main() -> int:
    """Write them, and the table."""
    for name, text in pictures().items():
        (FOLDER / name).write_text(text)
    PAGE.write_text(with_peers(PAGE.read_text(), peers_in(FIGURES[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
