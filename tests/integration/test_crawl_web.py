"""`flowq run scrape` on a web that misbehaves: sites that drip, move, change and forbid."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.raw_server import Answer, RawServer, answer, raw_server, redirect

PIPELINE = Path(__file__).parents[2] / "pipelines" / "scrape.py"
NO_ROBOTS = {"/robots.txt": answer("", 404)}


pytestmark = pytest.mark.project({"scrape": PIPELINE.read_text()}, SCRAPE_RATE="2000", SCRAPE_DB="scrape.db")


async def crawl(
    project: Project, *starts: str, sitemap: str = "", name: str = "scrape", workers: int = 1
) -> FlowqProcess:
    """Crawl to the end, while servers of this loop answer."""
    arguments = [f"url={' '.join(starts)}"] * bool(starts) + [f"sitemap={sitemap}"] * bool(sitemap)
    options = [word for argument in arguments for word in ("-a", argument)]
    return await asyncio.to_thread(project.run, "run", name, "--json", "--workers", str(workers), *options)


def rows(project: Project, server: RawServer) -> dict[str, tuple[str, int]]:
    """What is stored, by path."""
    with closing(sqlite3.connect(project.folder / "scrape.db")) as db:
        found = db.execute("select url, title, links from doc").fetchall()
    return {url.removeprefix(server.url): (title, links) for url, title, links in found}


def page(title: str, *hrefs: str, head: str = "", **headers: str) -> bytes:
    links = "".join(f"<a href='{href}'>x</a>" for href in hrefs)
    return answer(f"<title>{title}</title>{head}{links}", **headers)


async def test_a_site_that_drips_keeps_no_other_site_waiting(project: Project) -> None:
    other_is_done = asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(answer("", content_length="100000"))
        while not other_is_done.is_set():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    slow: dict[str, Answer] = {f"/slow{n}": [drip, page("slow")] for n in range(40)}
    fast: dict[str, Answer] = {f"/{n}": page(str(n), "/") for n in range(60)}

    async def last(writer: asyncio.StreamWriter) -> None:
        other_is_done.set()
        writer.write(page("last"))

    slow |= {**NO_ROBOTS, "/": page("slow", *slow)}
    fast |= {**NO_ROBOTS, "/": page("fast", *fast), "/59": page("59", "/last")}
    async with raw_server(slow) as slow_site, raw_server(fast | {"/last": last}) as fast_site:
        run = await crawl(project, slow_site.url, fast_site.url)
        assert run.wait() == 0, run.stderr
        assert len(rows(project, fast_site)) == (1 + 40) + (1 + 60 + 1)
    assert len(fast_site.paths) == len(set(fast_site.paths)) == 1 + 60 + 1


async def test_a_second_crawl_reads_only_what_has_changed_and_finds_the_same_pages(project: Project) -> None:
    async with raw_server(NO_ROBOTS) as server:
        for path, hrefs in {"/": ["/a", "/b"], "/a": ["/c"], "/b": [], "/c": []}.items():
            server.pages[path] = page(f"first {path}", *hrefs, etag=f'"{path}"')
        assert (await crawl(project, server.url)).wait() == 0
        first = rows(project, server)

        unchanged = answer("", 304, content_length="")
        server.pages |= {"/": unchanged, "/a": unchanged, "/c": unchanged, "/b": page("second /b", etag='"new"')}
        run = await crawl(project, server.url)

        assert run.wait() == 0, run.stderr
        asked = [(path, headers.get("if-none-match")) for path, headers in server.asked[-5:] if path != "/robots.txt"]
        assert sorted(asked) == [(path, f'"{path}"') for path in ("/", "/a", "/b", "/c")]
        assert run.summary["stages"]["parse"]["in"] == 1
        assert rows(project, server) == first | {"/b": ("second /b", 0)}


async def test_pages_under_several_urls_become_one_row_under_their_canonical_url(project: Project) -> None:
    head = "<link rel=canonical href='/a'>"
    pages = {"/": page("start", "/a?x=1", "/a?x=2"), "/a?x=1": page("A", head=head), "/a?x=2": page("A", head=head)}
    async with raw_server({**NO_ROBOTS, **pages}) as server:
        assert (await crawl(project, server.url)).wait() == 0
        assert rows(project, server) == {"/": ("start", 2), "/a": ("A", 0)}


async def test_what_a_page_forbids_is_neither_stored_nor_followed(project: Project) -> None:
    pages = {
        "/": page("start", "/noindex", "/nofollow", "/header"),
        "/noindex": page("no", "/a", head="<meta name=robots content=noindex>"),
        "/nofollow": page("stored", "/b", head="<meta name=robots content=nofollow>"),
        "/header": page("no", "/c", x_robots_tag="none"),
        "/a": page("a"),
    }
    async with raw_server({**NO_ROBOTS, **pages}) as server:
        assert (await crawl(project, server.url)).wait() == 0
        assert set(rows(project, server)) == {"/", "/nofollow", "/a"}
    assert sorted(server.paths) == ["/", "/a", "/header", "/nofollow", "/noindex"]


async def test_a_redirect_obeys_dedup_scope_and_robots_txt_like_any_link(project: Project) -> None:
    async with raw_server({"/in": page("other")}) as other:
        pages = {
            "/robots.txt": answer("User-agent: *\nDisallow: /private", content_type="text/plain"),
            "/": page("start", "/seen", "/out", "/forbidden", "/chain0", "/circle"),
            "/seen": redirect("/"),
            "/out": redirect(other.url + "/in"),
            "/forbidden": redirect("/private/x"),
            **{f"/chain{n}": redirect(f"/chain{n + 1}", 301 + 6 * (n % 2)) for n in range(9)},
            "/circle": redirect("/elcric"),
            "/elcric": redirect("/circle"),
        }
        async with raw_server(pages) as server:
            run = await crawl(project, server.url)
    assert run.wait() == 3
    assert other.asked == []
    chain = [f"/chain{n}" for n in range(6)]
    assert sorted(server.paths) == sorted(["/", "/seen", "/out", "/forbidden", "/circle", "/elcric", *chain])
    assert set(rows(project, server)) == {"/"}
    assert run.summary["stages"]["fetch"]["dead"] == 2  # the chain that is too long, and the circle


async def test_a_start_that_moves_takes_the_crawl_along(project: Project) -> None:
    async with raw_server({**NO_ROBOTS, "/": page("new", "/a"), "/a": page("A")}) as new, raw_server(NO_ROBOTS) as old:
        old.pages["/"] = redirect(new.url, 301)
        assert (await crawl(project, urlsplit(old.url).netloc)).wait() == 0
    assert rows(project, new) == {"/": ("new", 1), "/a": ("A", 0)}


async def test_a_crawl_can_begin_from_the_sitemaps_that_robots_txt_names(project: Project) -> None:
    async with raw_server({"/a": page("A", "/b"), "/b": page("B"), "/private": page("no")}) as server:
        names = "".join(f"<url><loc>{server.url}{path}</loc></url>" for path in ("/a", "/a", "/private"))
        server.pages |= {
            "/robots.txt": answer("User-agent: *\nDisallow: /private\nSitemap: /s.xml", content_type="text/plain"),
            "/s.xml": answer(f"<urlset>{names}</urlset>", content_type="text/xml"),
        }
        assert (await crawl(project, sitemap=f"{server.url}/robots.txt")).wait() == 0
        assert rows(project, server) == {"/a": ("A", 1), "/b": ("B", 0)}


async def test_requests_to_a_host_keep_the_distance_its_robots_txt_asks_over_all_workers(project: Project) -> None:
    paths = [f"/{n}" for n in range(8)]
    delay_seconds, moments = 0.4, list[float]()

    async def timed(writer: asyncio.StreamWriter) -> None:
        moments.append(asyncio.get_running_loop().time())
        writer.write(page("page"))

    rules = answer(f"User-agent: *\nCrawl-delay: {delay_seconds}", content_type="text/plain")
    async with raw_server({"/robots.txt": rules, "/": page("start", *paths), **dict.fromkeys(paths, timed)}) as server:
        run = await crawl(project, server.url, workers=2)
        assert run.wait() == 0, run.stderr
        assert len(rows(project, server)) == 9
    assert len(moments) == 8
    # Each may be a fifth too early, and none of them more than once.
    assert moments[-1] - moments[0] > 0.8 * delay_seconds * 7


async def test_a_crawl_without_a_start_says_what_is_missing(project: Project) -> None:
    run = await crawl(project)
    assert run.wait() != 0
    assert "-a url=https://" in run.stderr
    wrong = await crawl(project, "mailto:me@example.org")
    assert "is not the address of a web page" in wrong.stderr
