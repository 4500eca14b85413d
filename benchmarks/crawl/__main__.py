"""Crawls the PostgreSQL manual with flowq and with Scrapy, in turns: `python -m benchmarks.crawl`.

Both send at most eight requests at a time, obey robots.txt and store a row per page in SQLite. A new local process
serves the site for each crawl. The time is that of the whole command, from start to exit, including start and stop of
flowq's own Redis.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from examples.scraping.sites import NAMES, SiteUnavailable, site

ROOT = Path(__file__).resolve().parents[2]
SPIDER = Path(__file__).with_name("scrapy_spider.py")
SCRAPY = "scrapy==2.19.0"
SCRAPY_VENV = ROOT / ".scrapy-venv"


@dataclass(frozen=True)
class Crawl:
    """The result of one crawl."""

    seconds: float
    rows: int
    links: int
    requests: int
    start_page: int  # number of requests for it

    def __str__(self) -> str:
        return f"{self.seconds:6.2f} s  {self.rows:>6,} pages  {self.links:>7,} links  {self.requests:>6,} requests"


def main() -> int:
    """Crawl in turns, print each crawl, then the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl", description=__doc__)
    parser.add_argument("--site", default="postgresql", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        pages = site(options.site)
        python = scrapy_python()
    except (SiteUnavailable, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    crawls: dict[str, list[Crawl]] = {"flowq": [], "scrapy": []}
    for n in range(options.rounds):
        # the order alternates, so that neither has the warmer machine
        for name in sorted(crawls, reverse=bool(n % 2)):
            with served(options.site) as url, tempfile.TemporaryDirectory(prefix="crawl-") as folder:
                crawl = by_flowq(url, Path(folder)) if name == "flowq" else by_scrapy(url, Path(folder), python)
            crawls[name].append(crawl)
            print(f"  {name:<7} {crawl}", flush=True)
    report(pages.name, crawls)
    return 0


def report(name: str, crawls: dict[str, list[Crawl]]) -> None:
    medians = {by: statistics.median(crawl.seconds for crawl in some) for by, some in crawls.items()}
    print(f"\n{name}: median of {len(crawls['flowq'])} crawls each, 8 requests at a time")
    for by, seconds in medians.items():
        best, last = min(crawl.seconds for crawl in crawls[by]), crawls[by][-1]
        asked = "once" if last.start_page == 1 else f"{last.start_page} times"
        print(f"  {by:<7} {seconds:6.2f} s  (best {best:.2f} s)  {last.rows:,} pages, start page fetched {asked}")
    print(f"  flowq takes {medians['flowq'] / medians['scrapy']:.2f} times as long as Scrapy")


def scrapy_python() -> Path:
    """The interpreter of a virtual environment with Scrapy, created by the first call."""
    python = SCRAPY_VENV / "bin" / "python"
    if not (SCRAPY_VENV / ".gitignore").is_file():
        venv.create(SCRAPY_VENV, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", SCRAPY], check=True)
        (SCRAPY_VENV / ".gitignore").write_text("*\n")
    return python


@contextlib.contextmanager
def served(name: str) -> Generator[str]:
    """Run a server, and yield the URL of its start page."""
    command = [sys.executable, "-m", "examples.scraping.server", name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def by_flowq(url: str, folder: Path) -> Crawl:
    (folder / "pipelines").mkdir()
    shutil.copy(ROOT / "pipelines" / "scrape.py", folder / "pipelines")
    command = [sys.executable, "-m", "flowq", "run", "scrape", "--json", "-a", f"url={url}"]
    return timed(command, url, folder, "scrape.db", SCRAPE_RATE="100000")


def by_scrapy(url: str, folder: Path, python: Path) -> Crawl:
    return timed([str(python), "-m", "scrapy", "runspider", str(SPIDER), "-a", f"url={url}"], url, folder, "scrapy.db")


def timed(command: Sequence[str], url: str, folder: Path, database: str, **variables: str) -> Crawl:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "REDIS_"))}
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=inherited | variables, capture_output=True, text=True, timeout=600, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 3):  # 3: flowq has dead letters for broken links
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    with contextlib.closing(sqlite3.connect(folder / database)) as db:
        rows, links = db.execute("select count(*), sum(links) from doc").fetchone()
    with urllib.request.urlopen("{0.scheme}://{0.netloc}/__stats__".format(urlsplit(url))) as answer:
        stats = json.load(answer)
    return Crawl(seconds, rows, links, stats["requests"], stats["paths"][urlsplit(url).path])


if __name__ == "__main__":
    sys.exit(main())
