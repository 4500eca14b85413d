"""The example `scrape` on several shards: the same rows as on one, at the rate of its host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from examples.scraping.server import serve
from examples.scraping.sites import made_site
from flowq.broker.keys import Keys
from tests.cluster.lab import NAMESPACE, lab
from tests.cluster.starts import ahead_seconds
from tests.integration.crawl import ROOT, Crawl, crawl_of
from tests.integration.project import Project

SHARDS = 8
PER_SECOND = 200
WORKERS = 3
HOSTS, PAGES, SLOW_PER_SECOND = 12, 60, 20
LATE_SECONDS = 1.0  # in which a busy machine brings a request to the server; at twice the rate it would not be enough


@contextmanager
def crawled(home: str, folder: Path) -> Iterator[Crawl]:
    """The PostgreSQL manual, crawled by three workers on eight shards."""
    variables = {"FLOWQ_SCRAPE__SHARDS": f"{SHARDS}"} | ({"FLOWQ_REDIS_URL": home} if home else {})
    with crawl_of("postgresql", folder, per_second=PER_SECOND, **variables) as crawl:
        run = crawl.run("--workers", f"{WORKERS}")
        assert run.wait() == 0, run.stderr
        stages, expected = run.summary["stages"], crawl.expected
        assert stages["fetch"]["in"] == stages["fetch"]["ok"] == expected.unique
        assert stages["fetch"]["duplicates"] == expected.duplicates
        assert stages["store"]["in"] == stages["store"]["ok"] == expected.rows
        yield crawl


def verify(crawl: Crawl) -> None:
    asked = crawl.server.stats()
    assert crawl.expected.rows > 1000
    assert crawl.differences() == []
    assert asked["paths"] == dict.fromkeys(crawl.paths_expected(), 1)
    starts = sorted(moment for moments in asked["times"].values() for moment in moments)
    assert ahead_seconds(starts, PER_SECOND) < LATE_SECONDS


def test_a_crawl_on_a_cluster_is_the_same_as_on_one_shard(tmp_path: Path) -> None:
    with lab() as cluster, crawled(cluster.url, tmp_path) as crawl:
        verify(crawl)


def test_a_crawl_on_shards_of_one_server_is_the_same_as_on_one_shard(tmp_path: Path) -> None:
    with crawled("", tmp_path) as crawl:
        verify(crawl)


def test_each_of_many_hosts_is_asked_at_its_rate_whatever_its_shard(tmp_path: Path) -> None:
    pages = made_site(tmp_path / "site", PAGES)
    variables = {"SCRAPE_RATE": f"{SLOW_PER_SECOND}", "SCRAPE_DB": "scrape.db", "FLOWQ_SCRAPE__SHARDS": f"{SHARDS}"}
    with (
        lab() as cluster,
        ExitStack() as stack,
        Project(tmp_path / "project", FLOWQ_REDIS_URL=cluster.url, **variables) as project,
    ):
        hosts = [stack.enter_context(serve(pages)) for _ in range(HOSTS)]
        shutil.copy(ROOT / "pipelines" / "scrape.py", project.folder / "pipelines")
        url = " ".join(host.url for host in hosts)
        run = project.run("run", "scrape", "--json", "-a", f"url={url}", "--workers", f"{WORKERS}")
        assert run.wait() == 0, run.stderr

        assert run.summary["stages"]["store"]["ok"] == HOSTS * PAGES
        for host in hosts:
            starts = sorted(moment for moments in host.stats()["times"].values() for moment in moments)
            assert len(starts) == PAGES
            assert ahead_seconds(starts, SLOW_PER_SECOND) < LATE_SECONDS
        keys = [Keys(NAMESPACE, "scrape").in_shard(shard) for shard in range(SHARDS)]
        fetched = [int(cluster.primary_of(each).client.hget(each.stats, "ok:fetch") or 0) for each in keys]
        assert sum(fetched) == HOSTS * PAGES
        assert sum(n > 0 for n in fetched) > 1
