"""One crawl of three sites at once: each at its rate, none waits for another that answers 429."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from examples.scraping.server import SiteServer, Stats, serve
from examples.scraping.sites import made_site
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

PIPELINE = Path(__file__).parents[2] / "pipelines" / "scrape.py"
PER_SECOND = 40
PAGES = 100
CLOSED_SECONDS = 2.0
RATED_SECONDS = (PAGES - 1) / PER_SECOND
LATE_SECONDS = 0.3  # how much later than its turn a request may reach the server on a busy machine


@dataclass(frozen=True)
class Crawled:
    """The crawl, and what each site was asked for. The third was closed at first."""

    run: FlowqProcess
    rows: set[str]
    sites: list[SiteServer]
    asked: list[Stats]

    def times(self, n: int) -> list[float]:
        """When requests reached the site of that number, in order."""
        return sorted(moment for moments in self.asked[n]["times"].values() for moment in moments)


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """All three, crawled once."""
    folder = tmp_path_factory.mktemp("three")
    pages = made_site(folder / "site", PAGES)
    with (
        serve(pages) as first,
        serve(pages) as second,
        serve(pages, closed=CLOSED_SECONDS, retry_after=0.5) as closed,
        Project(folder / "project", SCRAPE_RATE=f"{PER_SECOND}", SCRAPE_DB="scrape.db") as project,
    ):
        shutil.copy(PIPELINE, project.folder / "pipelines")
        sites = [first, second, closed]
        run = project.run("run", "scrape", "--json", "-a", f"url={' '.join(site.url for site in sites)}")
        with closing(sqlite3.connect(project.folder / "scrape.db")) as db:
            rows = {url for (url,) in db.execute("select url from doc")}
        yield Crawled(run, rows, sites, [site.stats() for site in sites])


def test_every_page_of_all_three_is_stored_though_one_was_closed_at_first(crawled: Crawled) -> None:
    assert crawled.run.wait() == 0, crawled.run.stderr
    paths = ["/index.html", *(f"/page{n}.html" for n in range(1, PAGES))]
    assert crawled.rows == {site.origin + path for site in crawled.sites for path in paths}
    assert [stats["faults"]["429"] > 0 for stats in crawled.asked] == [False, False, True]
    assert [stats["requests"] - stats["faults"]["429"] for stats in crawled.asked] == [PAGES] * 3


def test_each_site_is_asked_at_its_rate_while_the_others_are_asked_too(crawled: Crawled) -> None:
    for n in range(3):
        times = crawled.times(n)
        for first, last, requests in _stretches(times):
            assert last - first >= (requests - 1) / PER_SECOND - LATE_SECONDS
    starts, ends = ([crawled.times(n)[which] for n in (0, 1)] for which in (0, -1))
    assert min(ends) - max(starts) > RATED_SECONDS / 2


def test_a_site_that_answers_429_is_left_alone_until_the_time_it_named(crawled: Crawled) -> None:
    gaps = [later - earlier for earlier, later in pairwise(crawled.times(2))]
    held = [gap for gap in gaps if gap > 0.5 - LATE_SECONDS]
    assert held, "no pause after 429"
    assert crawled.times(2)[-1] - crawled.times(2)[0] > CLOSED_SECONDS


def test_the_others_finish_as_if_it_were_not_there(crawled: Crawled) -> None:
    for n in (0, 1):
        times = crawled.times(n)
        assert times[-1] - times[0] < 1.1 * RATED_SECONDS + LATE_SECONDS


RATES = {"slow": 20, "medium": 40, "fast": 80}


def test_one_stage_crawls_three_sites_at_once_each_at_a_rate_of_its_own(tmp_path: Path) -> None:
    seconds = 2
    sites = {name: made_site(tmp_path / name, seconds * rate + 1) for name, rate in RATES.items()}
    with (
        serve(sites["slow"]) as slow,
        serve(sites["medium"]) as medium,
        serve(sites["fast"], closed=0.3, retry_after=0.3) as fast,
        Project(tmp_path / "project", SCRAPE_DB="scrape.db", SCRAPE_RATE=f"{RATES['fast']}") as project,
    ):
        shutil.copy(PIPELINE, project.folder / "pipelines")
        servers = {"slow": slow, "medium": medium, "fast": fast}
        others = " ".join(f"{urlsplit(servers[name].url).netloc}={RATES[name]}" for name in ("slow", "medium"))
        urls = " ".join(server.url for server in servers.values())
        project.ok("run", "scrape", "--json", "-a", f"url={urls}", SCRAPE_RATES=others)
        asked = {name: server.stats() for name, server in servers.items()}

    times = {name: sorted(m for moments in stats["times"].values() for m in moments) for name, stats in asked.items()}
    for name, rate in RATES.items():
        assert asked[name]["requests"] - asked[name]["faults"]["429"] == seconds * rate + 1
        for first, last, requests in _stretches(times[name]):
            assert last - first >= (requests - 1) / rate - LATE_SECONDS
    assert asked["fast"]["faults"]["429"] > 0
    assert min(moments[-1] for moments in times.values()) - max(moments[0] for moments in times.values()) > seconds / 2


def _stretches(times: list[float]) -> Iterator[tuple[float, float, int]]:
    """Every half of a crawl: a single request may be late, which makes the gap behind it look short."""
    half = len(times) // 2
    for first in range(len(times) - half):
        yield times[first], times[first + half], half + 1
