"""Three sites at once, one of which is busy: it does not slow the others down, whatever it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations

import pytest

from tests.integration.project import Project

PAGES, PER_SECOND, BUSY_SECONDS = 40, 40, 1.2
LATE_SECONDS = 0.08  # a request may reach the site so much later than it was let go

PIPELINE = f"""
from __future__ import annotations
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
import httpx2
from pydantic import BaseModel
from flowq import Pipeline, Rate, Retry, RetryLater, resource, retry_after, source, stage, use

class Link(BaseModel):
    url: str
    @property
    def host(self) -> str: return urlsplit(self.url).netloc

@resource
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as http:
        yield http

@source
def seeds(ports: str) -> Iterator[Link]:
    for n in range({PAGES}):
        for port in ports.split(","):
            yield Link(url=f"http://127.0.0.1:{{port}}/{{n}}")

@stage(concurrency=6, rate=Rate({PER_SECOND}, by="host", concurrency=3), retry=Retry(attempts=1))
async def fetch(link: Link, http: httpx2.AsyncClient = use(client)) -> None:
    r = await http.get(link.url)
    if r.status_code == 429:
        raise RetryLater("HTTP 429", after=retry_after(r), hold="host")
    r.raise_for_status()

sites = Pipeline("sites", seeds >> fetch)
"""


class Site:
    """A web site that logs when it was asked for what, and is busy for a while from its first request on."""

    def __init__(self, busy_seconds: float = 0.0) -> None:
        self.log: list[tuple[float, str, int]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                now = time.monotonic()
                began = site.log[0][0] if site.log else now
                status = 429 if now - began < busy_seconds else 200
                site.log.append((now, self.path, status))
                self.send_response(status)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    @property
    def times(self) -> list[float]:
        return sorted(at for at, _, _ in self.log)

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


@contextmanager
def serving(*sites: Site) -> Iterator[str]:
    """The ports, while the sites are up."""
    threads = [threading.Thread(target=site.server.serve_forever, args=(0.05,), daemon=True) for site in sites]
    for thread in threads:
        thread.start()
    try:
        yield ",".join(str(site.port) for site in sites)
    finally:
        for site, thread in zip(sites, threads, strict=True):
            site.server.shutdown()
            thread.join()
            site.server.server_close()


pytestmark = pytest.mark.project({"sites": PIPELINE}, redis="debian")


def crawl(project: Project, *sites: Site) -> None:
    with serving(*sites) as ports:
        done = project.ok("run", "sites", "--fresh", "--workers", "2", "--json", "-a", f"ports={ports}")
    summary = done.summary["stages"]["fetch"]
    assert (summary["ok"] + summary["filtered"], summary["dead"]) == (PAGES * len(sites), 0)


def test_a_site_that_answers_429_slows_no_other_and_is_left_alone_until_it_is_well(project: Project) -> None:
    alone = [Site(), Site()]
    crawl(project, *alone)
    busy, *others = Site(BUSY_SECONDS), Site(), Site()
    crawl(project, busy, *others)

    # As if alone: what the rate allows, and no more than a tenth longer than without the busy one.
    at_best = (PAGES - 1) / PER_SECOND
    for site in (*alone, *others):
        assert {path for _, path, _ in site.log} == {f"/{n}" for n in range(PAGES)}
        assert site.seconds >= at_best - LATE_SECONDS
    usual = max(site.seconds for site in alone)
    assert max(site.seconds for site in others) <= 1.1 * usual + LATE_SECONDS

    # The rate of each holds over both workers, while all of them overlap.
    for site in (busy, *others):
        for (i, first), (j, second) in combinations(enumerate(site.times), 2):
            assert second - first >= (j - i) / PER_SECOND - LATE_SECONDS
    assert max(site.times[0] for site in others) < min(site.times[-1] for site in others)
    assert busy.times[0] < min(site.times[-1] for site in others)

    # Requests under way are refused, then one at a time tries, and after recovery everything is fetched.
    refused = [at for at, _, status in busy.log if status == 429]
    served = [(at, path) for at, path, status in busy.log if status == 200]
    assert {path for _, path in served} == {f"/{n}" for n in range(PAGES)}
    under_way = 3
    assert len(refused) <= under_way + 1
    assert min(at for at, _ in served) - max(refused) >= 1 - LATE_SECONDS
    assert min(at for at, _ in served) - refused[0] >= BUSY_SECONDS
