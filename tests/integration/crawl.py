"""A crawl of a real site by the pipeline of the scraping example, and the expected result by its oracle."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote

from examples.scraping.faults import Fault
from examples.scraping.oracle import Expected, expected
from examples.scraping.server import SiteServer, serve
from examples.scraping.sites import Site, SiteUnavailable, site
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.requirements import unavailable

ROOT = Path(__file__).parents[2]
PER_SECOND = 2000  # to one host
ANYWHERE = "http://site.test"


@cache
def _expected_anywhere(pages: Site, faults: tuple[Fault, ...], robots: str | None) -> Expected:
    """What the oracle finds, once for all servers: to read a thousand pages takes it two seconds."""
    return expected(pages, url=ANYWHERE, faults=faults, robots=robots)


class Crawl:
    """A site, the server that serves it, and a project whose `scrape` crawls it."""

    def __init__(
        self, project: Project, server: SiteServer, pages: Site, faults: Sequence[Fault], robots: str | None
    ) -> None:
        self.project = project
        self.server = server
        self._pages = pages
        self._faults = faults
        self._robots = robots

    @cached_property
    def expected(self) -> Expected:
        found = _expected_anywhere(self._pages, tuple(self._faults), self._robots)

        def here(urls: Iterable[str]) -> set[str]:
            return {self.server.origin + url.removeprefix(ANYWHERE) for url in urls}

        return replace(
            found,
            pages={self.server.origin + url.removeprefix(ANYWHERE): links for url, links in found.pages.items()},
            broken=here(found.broken),
            looped=here(found.looped),
            other=here(found.other),
            blocked=here(found.blocked),
            unclosed=here(found.unclosed),
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line without further options."""
        return ("run", "scrape", "--json", "-a", f"url={self.server.url}")

    def run(self, *options: str) -> FlowqProcess:
        """Crawl to the end."""
        return self.project.run(*self.arguments, *options)

    def start(self, *options: str) -> FlowqProcess:
        """Begin to crawl."""
        return self.project.start(*self.arguments, *options)

    @property
    def requests(self) -> int:
        """How many requests the server has had."""
        return self.server.stats()["requests"]

    @property
    def hits(self) -> dict[str, int]:
        """How often each path was asked for."""
        return self.server.stats()["paths"]

    def path(self, url: str) -> str:
        """A URL as the server counts it."""
        return unquote(url.removeprefix(self.server.origin))

    def paths_expected(self) -> set[str]:
        """The paths that a crawl asks for: those of pages, of other files, and of links that lead nowhere."""
        wanted = self.expected.pages.keys() | self.expected.broken | self.expected.other
        return {self.path(url) for url in wanted}

    def stored(self) -> dict[str, int]:
        """The rows: URL and number of links."""
        with contextlib.closing(sqlite3.connect(self.project.folder / "scrape.db")) as database:
            return dict(database.execute("select url, links from doc"))

    def differences(self) -> list[str]:
        """Where the rows differ from what the oracle expects."""
        return self.expected.differences(self.stored())


@contextlib.contextmanager
def crawl_of(
    name: str,
    folder: Path,
    *,
    faults: Sequence[Fault] = (),
    retry_after: float = 1,
    robots: str | None = None,
    per_second: int = PER_SECOND,
    **variables: str,
) -> Iterator[Crawl]:
    """Serve a site, and prepare a project of its own to crawl it. `robots` is the text of its robots.txt."""
    try:
        pages = site(name)
    except SiteUnavailable as error:
        unavailable(str(error), "the sites are Debian packages, fetched once")
    variables = {"SCRAPE_RATE": str(per_second), "SCRAPE_DB": "scrape.db"} | variables
    with (
        serve(pages, faults=faults, retry_after=retry_after, robots=robots) as server,
        Project(folder, **variables) as project,
    ):
        shutil.copy(ROOT / "pipelines" / "scrape.py", project.folder / "pipelines")
        yield Crawl(project, server, pages, faults, robots)
