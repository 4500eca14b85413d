"""Parses 300 large pages on threads and in processes, in turns: `python -m benchmarks.cores`.

Each page passes Redis as a message. Both stages have two slots, so that the second core is the only difference. Besides
the elapsed time the report has the processor time of the busiest interpreter: no run can be shorter, and it shows how
the work was shared even if other programs keep the machine busy.
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
from benchmarks.cores.stages import PAGES, busy_seconds, processes, threads
from examples.scraping.sites import SiteUnavailable, site
from flowq.broker.embedded.server import EmbeddedRedis


def main() -> int:
    """Run in turns, print each run, then the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        site("sqlalchemy")
    except SiteUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    took: dict[str, list[float]] = {"threads": [], "processes": []}
    busiest: dict[str, list[float]] = {"threads": [], "processes": []}
    with tempfile.TemporaryDirectory(prefix="cores-") as folder, EmbeddedRedis.acquire(Path(folder)) as server:
        for n in range(options.rounds):
            # the order alternates, so that neither has the warmer machine
            for pipeline in sorted((threads, processes), key=lambda some: some.name, reverse=bool(n % 2)):
                busy_seconds.clear()
                summary = asyncio.run(flowq.run(pipeline, redis=server.url))
                assert summary.drained
                assert summary.stages["note"].ok == PAGES
                took[pipeline.name].append(summary.seconds)
                busiest[pipeline.name].append(max(busy_seconds.values()))
                shares = " + ".join(f"{seconds:.2f}" for seconds in busy_seconds.values())
                print(f"  {pipeline.name:<10} {summary.seconds:5.2f} s  parsing {shares} s", flush=True)
    print(f"\n{PAGES} pages, {os.cpu_count()} cores, medians of {options.rounds}")
    for what, found in {"elapsed": took, "busiest interpreter": busiest}.items():
        by_threads, by_processes = (statistics.median(found[name]) for name in ("threads", "processes"))
        print(f"  {what:<20} threads {by_threads:6.2f} s  processes {by_processes:6.2f} s", end="")
        print(f"  {by_threads / by_processes:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
