"""Draws the pictures of the documentation that follow from files of the project alone: `make pictures`."""

from __future__ import annotations

import sys
from pathlib import Path

from flowq.graph.render.svg import svg
from pipelines.scrape import scrape
from tools.docs.plots import plots

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"


def pictures() -> dict[str, str]:
    """All of them by name, as SVG."""
    return {"graph.svg": svg(scrape.plan), **plots(ROOT / "benchmarks" / "figures.json")}


def main() -> int:
    """Write them."""
    for name, text in pictures().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
