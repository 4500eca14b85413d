"""A crawl through a real Chromium, of a page that builds its links by script."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from flowq.errors import Reject, RetryLater
from flowq.scraping import Crawler, DnsFailed, FetchFailed, Limits, Link, Page, ServerFailed, TooSlow, Web
from flowq.scraping.browser import Browser
from flowq.scraping.failures import BrowserCrashed, ConnectionFailed
from tests.integration.project import Project
from tests.integration.test_crawl_web import NO_ROBOTS, crawl, page
from tests.raw_server import answer, raw_server, redirect
from tests.requirements import unavailable

PIPELINES = Path(__file__).parents[2] / "pipelines"
BUILT = """<title>loading</title><div id=app></div><script>
    document.title = "built";
    setTimeout(() => fetch("/data.json").then(r => r.json()).then(paths => {
        document.getElementById("app").innerHTML = paths.map(path => `<a href="${path}">x</a>`).join("");
    }), 20);
</script>"""
PAGES = {
    "/": answer(BUILT),
    "/data.json": answer('["/a", "/b", "/moved", "/gone"]', content_type="application/json"),
    "/a": page("A", "/"),
    "/b": answer("<title>B</title><script>history.pushState({}, '', '/c')</script>"),
    "/c": page("C"),
    "/moved": redirect("/a"),
    "/favicon.ico": answer("", 404),
}


@pytest.fixture(autouse=True)
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        unavailable("there is no chromium", "apt-get install chromium")
    return str(found)


SCRAPES = {name: (PIPELINES / f"{name}.py").read_text() for name in ("scrape", "scrape_browser")}
pytestmark = pytest.mark.project(SCRAPES, SCRAPE_RATE="2000", SCRAPE_DB="scrape.db")


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Crawler("test-crawler").open() as web:
        yield web


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def browsers(pid: int) -> list[int]:
    """The main processes of Chromium below a process."""
    found = list[int]()
    for child in children_of(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"chromium" in command[0] and not any(word.startswith(b"--type=") for word in command):
            found.append(child)
        else:
            found += browsers(child)
    return found


async def test_links_that_a_script_has_built_are_followed(project: Project) -> None:
    async with raw_server({**NO_ROBOTS, **PAGES}) as server:
        run = await crawl(project, server.url, name="scrape_browser")
        assert run.wait() == 3, run.stderr  # /gone
        with closing(sqlite3.connect(project.folder / "scrape.db")) as db:
            rows = {(url.removeprefix(server.url), title) for url, title in db.execute("select url, title from doc")}
    assert rows == {("/", "built"), ("/a", "A"), ("/c", "C")}


async def test_a_browser_that_is_killed_fails_its_page_and_the_next_one_gets_a_new_browser(web: Web) -> None:
    async with raw_server({**NO_ROBOTS, **PAGES}) as server, Browser(web) as browser:
        start = Link(url=server.url + "/a")

        async def kill(writer: object) -> None:
            for pid in browsers(os.getpid()):
                os.kill(pid, signal.SIGKILL)

        server.pages["/crash"] = kill
        with pytest.raises(BrowserCrashed):
            await browser.fetch(start.model_copy(update={"url": server.url + "/crash"}))
        [found] = await browser.fetch(start)
    assert isinstance(found, Page)
    assert "<title>A</title>" in found.html


async def test_failures_are_told_apart_and_robots_txt_is_obeyed(web: Web) -> None:
    rules = answer("User-agent: *\nDisallow: /private", content_type="text/plain")
    async with raw_server({"/robots.txt": rules, "/private": page("no")}) as server, Browser(web) as browser:
        assert await browser.fetch(Link(url=server.url + "/private")) == []
        assert server.paths == []
    async with Crawler("x", obey_robots=False).open() as careless, Browser(careless) as browser:
        assert isinstance(await failure(browser, "http://no-such-host.invalid/"), DnsFailed)
        assert isinstance(await failure(browser, "http://127.0.0.1:65000/"), ConnectionFailed)


async def test_where_redirects_and_scripts_lead_is_a_link_and_is_not_loaded(web: Web) -> None:
    async with raw_server(NO_ROBOTS) as server, raw_server({}) as other, Browser(web) as browser:
        server.pages |= {
            "/moved": redirect("/b"),
            "/away": redirect(other.url + "/x"),
            "/script": answer("<script>location.href = '/b'</script>"),
            "/script-away": answer(f"<script>location.replace('{other.url}/x')</script>"),
            "/refresh": answer("<meta http-equiv=refresh content='0; url=/b'>"),
            "/popup": answer(f"<title>P</title><script>open('{server.url}/popup')</script>"),
        }
        site = server.url.removeprefix("http://")
        found = {
            path: await browser.fetch(Link(url=server.url + path, site=site, depth=1))
            for path in server.pages
            if path != "/robots.txt"
        }
    led = {path: [item.url.removeprefix(server.url) for item in items] for path, items in found.items()}
    assert led == {
        **{path: ["/b"] for path in ("/moved", "/script", "/refresh")},
        **{path: [] for path in ("/away", "/script-away")},
        "/popup": ["/popup"],
    }
    assert other.asked == []
    assert "/b" not in server.paths


async def test_what_is_no_page_is_skipped_and_refused_pages_are_reported(web: Web) -> None:
    pages = {
        "/file": answer("x", content_disposition="attachment; filename=a.html"),
        "/zip": answer("PK", content_type="application/zip"),
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/404": page("not here").replace(b"200", b"404", 1),
        "/429": answer("", 429, retry_after="9"),
        "/500": answer("broken", 500),
    }
    async with raw_server({**NO_ROBOTS, **pages}) as server, Browser(web) as browser:
        links = {path: Link(url=server.url + path) for path in pages}
        assert [await browser.fetch(links[path]) for path in ("/file", "/zip", "/204")] == [[], [], []]
        with pytest.raises(Reject, match="HTTP 404"):
            await browser.fetch(links["/404"])
        with pytest.raises(RetryLater) as caught:
            await browser.fetch(links["/429"])
        with pytest.raises(ServerFailed, match="HTTP 500"):
            await browser.fetch(links["/500"])
    assert (caught.value.after, caught.value.hold) == (9, "host")


async def test_a_page_that_keeps_the_browser_busy_is_given_up_and_the_next_one_is_read() -> None:
    pages = {
        "/busy": answer("<script>while (true) {}</script>"),
        "/dialogs": answer("<script>alert(1); confirm(2); prompt(3); print()</script><title>D</title>"),
        "/reload": answer("<script>location.reload()</script>"),
        "/form": answer("<form method=post action=/b></form><script>document.forms[0].submit()</script>"),
        "/cookie": answer(
            "<script>if (document.cookie) document.title = 'C';"
            "else { document.cookie = 'a=1'; location.reload() }</script>"
        ),
    }
    crawler = Crawler("x", limits=Limits(page_seconds=8))
    async with crawler.open() as web, raw_server({**NO_ROBOTS, **pages}) as server, Browser(web) as browser:
        assert isinstance(await failure(browser, server.url + "/busy"), TooSlow)
        for path, title in (("/dialogs", "D"), ("/cookie", "C")):
            [found] = await browser.fetch(Link(url=server.url + path))
            assert isinstance(found, Page)
            assert f"<title>{title}</title>" in found.html
        for path, reason in (("/reload", "loads itself"), ("/form", "submits a form")):
            with pytest.raises(Reject, match=reason):
                await browser.fetch(Link(url=server.url + path))
    assert server.paths.count("/reload") == 5
    assert "/b" not in server.paths


async def failure(browser: Browser, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await browser.fetch(Link(url=url))
    return caught.value
