"""Crawls two sites alone, then together with a slow or refusing one: `python -m benchmarks.throttled`.

The third site answers 429 for ten seconds, or with `--drips` sends its pages a byte per second. The time of a site runs
from the first request to any site until its last page is stored; both are recorded as they happen. Fails if one of the
two takes more than a tenth longer with the third than without it. The site with 429 answers some requests first, so
that hundreds of its pages wait while it is held; the one that drips has as many pages as one host may have in progress.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.throttled.timed import DATABASE
from examples.scraping.server import SiteServer, serve
from examples.scraping.sites import Site, made_site

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = (ROOT / "pipelines" / "scrape.py", Path(__file__).with_name("timed.py"))
PER_SECOND = 40
CLOSED_SECONDS, CLOSED_AFTER, RETRY_AFTER_SECONDS = 10.0, 20, 1.0
LONGEST = 1.10
FETCHED_AT_ONCE = 8  # from one host, by pipelines/scrape.py


@dataclass(frozen=True)
class Crawled:
    """One crawl: the time of each site, and how often it answered 429."""

    seconds: Sequence[float]
    refused: Sequence[int]

    def __str__(self) -> str:
        sites = (
            f"{took:6.2f} s" + (f" ({no} times 429)" if no else "")
            for took, no in zip(self.seconds, self.refused, strict=True)
        )
        return "  ".join(sites)


def main() -> int:
    """Crawl both ways, print the time of each site, and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throttled", description=__doc__)
    parser.add_argument("--pages", type=int, default=600, help="of each site")
    parser.add_argument("--drips", action="store_true", help="the third sends a byte per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="throttled-") as scratch:
        folder = Path(scratch)
        pages = made_site(folder / "site", options.pages)
        few = made_site(folder / "few", 1 + FETCHED_AT_ONCE)
        alone = crawled(folder / "alone", pages, pages)
        print(f"  alone   {alone}", flush=True)
        third = (few, {"drip": 1.0}) if options.drips else (pages, {"closed": CLOSED_SECONDS})
        beside = crawled(folder / "beside", pages, pages, third=third)
        print(f"  beside  {beside}", flush=True)
    if min(beside.seconds[:2]) < CLOSED_SECONDS:
        print("error: the two sites finished before the third stopped answering 429; raise --pages", file=sys.stderr)
        return 1
    ratios = [took / before for took, before in zip(beside.seconds, alone.seconds, strict=False)]
    print(f"  {' and '.join(f'{ratio:.3f}' for ratio in ratios)} times as long, {LONGEST:.2f} at most")
    return 0 if max(ratios) <= LONGEST else 1


def crawled(folder: Path, *sites: Site, third: tuple[Site, dict[str, float]] | None = None) -> Crawled:
    """Crawl sites, and a third one with other server options."""
    (folder / "pipelines").mkdir(parents=True)
    for pipeline in PIPELINES:
        shutil.copy(pipeline, folder / "pipelines")
    served: list[tuple[Site, dict[str, float]]] = [(site, {}) for site in sites] + ([third] if third else [])
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serve(
                    pages,
                    closed=trouble.get("closed", 0),
                    closed_after=CLOSED_AFTER,
                    retry_after=RETRY_AFTER_SECONDS,
                    drip=trouble.get("drip", 0),
                )
            )
            for pages, trouble in served
        ]
        run(folder, " ".join(server.url for server in servers))
        with closing(sqlite3.connect(folder / DATABASE)) as db:
            return times(servers, dict(db.execute("select url, at from stored")))


def run(folder: Path, urls: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "REDIS_"))}
    command = [sys.executable, "-m", "flowq", "run", "timed", "--json", "-a", f"url={urls}"]
    environ = inherited | {"SCRAPE_RATE": str(PER_SECOND)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")


def times(servers: Sequence[SiteServer], stored: dict[str, float]) -> Crawled:
    """Combine the records of the servers and the database."""
    asked = [server.stats() for server in servers]
    begun = min(moment for stats in asked for moments in stats["times"].values() for moment in moments)
    last = [max(at for url, at in stored.items() if url.startswith(f"{server.origin}/")) for server in servers]
    return Crawled([at - begun for at in last], [stats["faults"]["429"] for stats in asked])


if __name__ == "__main__":
    sys.exit(main())
