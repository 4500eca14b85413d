"""Parses 300 large pages on threads and in processes, in turns: `python -m benchmarks.cores`.

Each crosses Redis as a message. Both stages have two slots, so that the second core is the whole difference.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import flowq
from benchmarks.cores.stages import PAGES, processes, threads
from examples.scraping.sites import SiteUnavailable, site
from flowq.broker.embedded import EmbeddedRedis


def main() -> int:
    """Run in turns, print every run, and then the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        site("sqlalchemy")
    except SiteUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    took: dict[str, list[float]] = {"threads": [], "processes": []}
    with tempfile.TemporaryDirectory(prefix="cores-") as folder, EmbeddedRedis.acquire(Path(folder)) as server:
        for n in range(options.rounds):
            # who goes first changes, so that neither has the warmer machine
            for pipeline in sorted((threads, processes), key=lambda some: some.name, reverse=bool(n % 2)):
                summary = asyncio.run(flowq.run(pipeline, redis=server.url))
                assert summary.drained
                assert summary.stages["note"].ok == PAGES
                took[pipeline.name].append(summary.seconds)
                print(f"  {pipeline.name:<10} {summary.seconds:5.2f} s", flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    print(f"\n{PAGES} pages, {os.cpu_count()} cores: threads {medians['threads']:.2f} s, ", end="")
    print(f"processes {medians['processes']:.2f} s: {medians['threads'] / medians['processes']:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
