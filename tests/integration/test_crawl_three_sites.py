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
CLOSED_SECONDS, RETRY_AFTER_SECONDS = 2.0, 0.5
RATED_SECONDS = (PAGES - 1) / PER_SECOND
"""Here times are real, and a request may reach its site much later than its turn: how exactly rates are kept is
shown on a virtual clock."""


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
        serve(pages, closed=CLOSED_SECONDS, retry_after=RETRY_AFTER_SECONDS) as closed,
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
        assert crawled.times(n)[-1] - crawled.times(n)[0] > RATED_SECONDS / 2
    starts, ends = ([crawled.times(n)[which] for n in (0, 1)] for which in (0, -1))
    assert min(ends) - max(starts) > RATED_SECONDS / 2


def test_a_site_that_answers_429_is_left_alone_until_the_time_it_named(crawled: Crawled) -> None:
    gaps = [later - earlier for earlier, later in pairwise(crawled.times(2))]
    assert max(gaps) > RETRY_AFTER_SECONDS / 2, "no pause after 429"
    assert crawled.times(2)[-1] - crawled.times(2)[0] > CLOSED_SECONDS


def test_the_others_are_asked_while_it_is_closed(crawled: Crawled) -> None:
    closed_at = crawled.times(2)[0]
    for n in (0, 1):
        asked = [at for at in crawled.times(n) if closed_at < at < closed_at + CLOSED_SECONDS]
        assert len(asked) > PAGES / 10


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
        assert times[name][-1] - times[name][0] > seconds / 2
    assert asked["fast"]["faults"]["429"] > 0
    assert min(moments[-1] for moments in times.values()) - max(moments[0] for moments in times.values()) > seconds / 2
