"""Fetching from misbehaving servers. The expected result of each response was worked out by hand."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
import trustme

from flowq.errors import Reject, RetryLater
from flowq.scraping import (
    BrokenBody,
    BrokenSitemap,
    ConnectionFailed,
    Crawler,
    DnsFailed,
    FetchFailed,
    Known,
    Limits,
    Link,
    Page,
    Scope,
    ServerFailed,
    TlsFailed,
    TooSlow,
    Web,
)
from tests.ports import free_port
from tests.raw_server import RawServer, answer, raw_server, redirect

HTML = "<title>T</title><a href=/x>x</a>"
LIMITS = Limits(page_seconds=30, page_bytes=100_000)
CRAWLER = Crawler("my-crawler", limits=LIMITS)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with CRAWLER.open() as web:
        yield web


async def page_of(web: Web, server: RawServer, path: str) -> Page:
    [page] = await web.fetch(link(server, path))
    assert isinstance(page, Page)
    return page


def link(server: RawServer, path: str, *, depth: int = 1) -> Link:
    start = CRAWLER.start(server.url)
    return start.model_copy(update={"url": server.url + path, "depth": depth})


# Bodies


async def test_a_page_comes_as_text_with_what_its_headers_say(web: Web) -> None:
    headers = {"x_robots_tag": "noindex", "etag": '"1"', "last_modified": formatdate(0, usegmt=True)}
    body = "Zürich".encode("cp1252")
    async with raw_server({"/": answer(body, content_type="text/html; charset=latin1", **headers)}) as server:
        page = await page_of(web, server, "/")
    assert (page.html, page.encoding, page.robots) == ("Zürich", "cp1252", "noindex")
    assert (page.etag, page.modified) == ('"1"', "Thu, 01 Jan 1970 00:00:00 GMT")
    assert server.asked[-1][1]["user-agent"] == "my-crawler"


@pytest.mark.parametrize(
    "broken",
    [
        answer(gzip.compress(HTML.encode())[:-9], content_encoding="gzip"),
        answer(HTML)[:-5],  # shorter than its Content-Length
        answer(HTML, content_length="", transfer_encoding="chunked"),  # no chunks at all
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        answer(HTML, content_encoding="br"),
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x00\x01\x02 no HTTP at all\r\n\r\n",
        b"",
    ],
    ids=range(8),
)
async def test_a_body_that_is_not_whole_is_tried_again_and_never_half_a_page(web: Web, broken: bytes) -> None:
    async with raw_server({"/": [broken, answer(HTML)]}) as server:
        with pytest.raises(BrokenBody):
            await web.fetch(link(server, "/"))
        assert (await page_of(web, server, "/")).html == HTML


async def test_a_page_above_the_limit_is_rejected_whether_packed_or_not(web: Web) -> None:
    bomb = gzip.compress(b"<p>" * 1_000_000)
    async with raw_server({"/a": answer(b"x" * 200_000), "/b": answer(bomb, content_encoding="gzip")}) as server:
        for path in ("/a", "/b"):
            with pytest.raises(Reject, match="larger than 100,000 bytes"):
                await web.fetch(link(server, path))


async def test_what_is_no_page_is_passed_over_without_reading_its_body(web: Web) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", content_type="video/mp4", content_length="100000000000"))
        while True:
            writer.write(b"\0" * 10_000)
            await writer.drain()

    pages = {
        "/film": endless,
        "/json": answer("{}", content_type="application/json"),
        "/wrong": answer(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", content_type="text/html"),
        "/none": answer("text", content_type=""),
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    }
    async with raw_server(pages) as server:
        assert [await web.fetch(link(server, path)) for path in pages] == [[]] * 5


async def test_a_page_without_a_type_is_found_by_its_first_bytes(web: Web) -> None:
    async with raw_server({"/": answer("  <!DOCTYPE HTML>" + HTML, content_type="")}) as server:
        assert (await page_of(web, server, "/")).html.endswith(HTML)


async def test_a_page_that_drips_is_given_up_when_its_time_is_over() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"", content_length="100000"))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with Crawler("x", limits=Limits(page_seconds=0.3)).open() as web, raw_server({"/": drip}) as server:
        with pytest.raises(TooSlow, match=r"no complete response within 0\.3 s"):
            await web.fetch(link(server, "/"))


# Redirects


async def test_a_redirect_is_a_link_and_what_it_leads_to_is_not_fetched(web: Web) -> None:
    async with raw_server({"/a": redirect("b?q=é#f", 301), "/b": answer(HTML)}) as server:
        [found] = await web.fetch(link(server, "/a"))
    assert isinstance(found, Link)
    assert (found.url, found.depth) == (f"{server.url}/b?q=%C3%A9", 1)
    assert server.paths == ["/a"]


@pytest.mark.parametrize(("byte", "path"), [(b"\xc3\xa9", "%C3%A9"), (b"\xe9", "%E9")], ids=["utf-8", "latin-1"])
async def test_bytes_beyond_ascii_in_a_location_are_sent_back_as_they_came(web: Web, byte: bytes, path: str) -> None:
    head = b"HTTP/1.1 302 X\r\nLocation: /caf" + byte + b"\r\nLocation: /second\r\nContent-Length: 0\r\n\r\n"
    async with raw_server({"/a": head}) as server:
        [found] = await web.fetch(link(server, "/a"))
    assert found.url == f"{server.url}/caf{path}"


@pytest.mark.parametrize("way", [["/a", "/a"], ["/a", "/login", "/a"]], ids=["itself", "round about"])
async def test_a_page_that_wants_a_cookie_is_asked_again_with_it(web: Web, way: list[str]) -> None:
    pages = dict(zip(way, [redirect(target) for target in way[1:]], strict=False))
    pages[way[-2]] = answer("", 302, location="/a", set_cookie="seen=1; path=/")
    async with raw_server({path: [script, answer(HTML)] for path, script in pages.items()}) as server:
        found: list[Page | Link] = [link(server, "/a")]
        while isinstance(found[0], Link):
            found = await web.fetch(found[0])
    assert server.paths == way
    assert (found[0].url, found[0].html) == (f"{server.url}/a", HTML)
    assert server.asked[-1][1]["cookie"] == "seen=1"


async def test_a_page_that_wants_ever_more_cookies_is_rejected(web: Web) -> None:
    async with raw_server({"/a": answer("", 302, location="/a", set_cookie="n=1")}) as server:
        with pytest.raises(Reject, match="in a circle"):
            await web.fetch(link(server, "/a"))
    assert len(server.paths) == 6


async def test_cookies_that_cannot_be_sent_back_spoil_no_further_request(web: Web) -> None:
    many = "".join(f"Set-Cookie: n{n}={'x' * 100}\r\n" for n in range(500)).encode()
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=\xe9\r\nSet-Cookie: b=" + b"x" * 5_000 + b"\r\n" + many
    head += b"Content-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with raw_server({"/a": head, "/b": answer(HTML)}) as server:
        await web.fetch(link(server, "/a"))
        assert await page_of(web, server, "/b")
    assert len(server.asked[-1][1]["cookie"]) < 8_000


async def test_a_redirect_to_another_site_ends_there_but_for_the_start_of_the_crawl(web: Web) -> None:
    async with raw_server({"/a": redirect("http://other.test/b")}) as server:
        assert await web.fetch(link(server, "/a")) == []
        [moved] = await web.fetch(link(server, "/a", depth=0))
    assert isinstance(moved, Link)
    assert moved.site == "other.test"


# robots.txt


async def test_robots_txt_is_asked_for_once_by_many_pages_at_once(web: Web) -> None:
    robots = answer("User-agent: *\nDisallow: /private", content_type="text/plain")
    async with raw_server({"/robots.txt": robots, "/": answer(HTML)}) as server:
        await asyncio.gather(*(web.fetch(link(server, path)) for path in ("/", "/private", "/private/x", "/")))
    assert [path for path, _ in server.asked].count("/robots.txt") == 1
    assert server.paths == ["/", "/"]


async def test_robots_txt_is_followed_over_five_redirects_and_no_more(web: Web) -> None:
    rules = answer("User-agent: *\nDisallow: /", content_type="text/plain")
    chain = {f"/{n}": redirect(f"/{n + 1}") for n in range(1, 9)}
    for length, allowed in ((5, False), (6, True)):
        pages = {"/robots.txt": redirect("/1"), **chain, f"/{length}": rules, "/page": answer(HTML)}
        async with raw_server(pages) as server:
            assert bool(await web.fetch(link(server, "/page"))) is allowed


async def test_pages_that_wait_for_a_robots_txt_that_fails_fail_with_it_all_at_once(web: Web) -> None:
    async with raw_server({"/robots.txt": [b"", answer("", 404)], "/a": answer(HTML)}) as server:
        links = [link(server, path) for path in ("/a", "/b", "/c")]
        failures = await asyncio.gather(*map(web.fetch, links), return_exceptions=True)
        assert [type(failure) for failure in failures] == [BrokenBody] * 3
        assert len(server.asked) == 1
        assert await web.fetch(links[0])


async def test_users_in_addresses_share_the_robots_txt_of_the_host(web: Web) -> None:
    async with raw_server({"/robots.txt": answer("", 404), "/a": answer(HTML)}) as server:
        for user in ("", "one@", "two:x@"):
            assert await web.fetch(Link(url=server.url.replace("//", f"//{user}") + "/a"))
    assert [path for path, _ in server.asked].count("/robots.txt") == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_while_robots_txt_fails_the_whole_host_waits_and_then_continues(web: Web, status: int) -> None:
    busy = answer("", status, retry_after="7")
    async with raw_server({"/robots.txt": [busy, answer("", 404)], "/": answer(HTML)}) as server:
        with pytest.raises(RetryLater) as caught:
            await web.fetch(link(server, "/"))
        assert (caught.value.after, caught.value.hold) == (7, "host")
        assert server.paths == []
        assert await web.fetch(link(server, "/"))


async def test_a_crawler_that_does_not_obey_does_not_ask() -> None:
    async with Crawler("x", obey_robots=False).open() as web, raw_server({"/": answer(HTML)}) as server:
        assert await web.fetch(link(server, "/"))
    assert [path for path, _ in server.asked] == ["/"]


# Answers


async def test_a_refused_page_is_not_requested_again_and_a_busy_host_is_held(web: Web) -> None:
    async with raw_server({"/403": answer("", 403), "/429": answer("", 429, retry_after="9")}) as server:
        with pytest.raises(Reject, match="HTTP 403"):
            await web.fetch(link(server, "/403"))
        with pytest.raises(RetryLater) as caught:
            await web.fetch(link(server, "/429"))
    assert (caught.value.after, caught.value.hold) == (9, "host")


async def test_a_page_that_has_not_changed_gives_the_links_that_were_on_it(web: Web) -> None:
    async with raw_server({"/": answer(b"", 304, content_length="")}) as server:
        known = Known(url=server.url + "/", etag='"1"', modified="then", links=[f"{server.url}/x", "http://other/"])
        found = await web.fetch(link(server, "/", depth=0), known)
    assert [(item.url, item.depth) for item in found if isinstance(item, Link)] == [(f"{server.url}/x", 1)]
    assert (server.asked[-1][1]["if-none-match"], server.asked[-1][1]["if-modified-since"]) == ('"1"', "then")


async def test_an_unrequested_not_modified_is_retried(web: Web) -> None:
    async with raw_server({"/": [answer(b"", 304, content_length=""), answer(HTML)]}) as server:
        with pytest.raises(ServerFailed, match="304"):
            await web.fetch(link(server, "/"))
        assert await page_of(web, server, "/")


@pytest.mark.parametrize(
    "etag", ['"\u00e9"', '"' + "x" * 70_000 + '"', '"a\r\nX: y"'], ids=["latin-1", "long", "lines"]
)
async def test_an_etag_that_no_server_should_be_sent_is_not(web: Web, etag: str) -> None:
    async with raw_server({"/": answer(HTML)}) as server:
        known = Known(url=server.url + "/", etag=etag, modified="then")
        assert await web.fetch(link(server, "/"), known)
    assert "if-none-match" not in server.asked[-1][1]
    assert server.asked[-1][1]["if-modified-since"] == "then"


# Connections


async def failure(web: Web, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await web.fetch(Link(url=url))
    return caught.value


async def test_errors_of_the_way_are_told_apart_by_name(web: Web) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    def refuse(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 no TLS here\r\n\r\n")
        writer.close()

    async with (
        raw_server({"/robots.txt": answer("", 404), "/500": answer("", 500)}) as server,
        await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=context) as untrusted,
        await asyncio.start_server(refuse, "127.0.0.1", 0) as plain,
    ):
        found = [
            await failure(web, "http://no-such-host.invalid/"),
            await failure(web, f"https://localhost:{untrusted.sockets[0].getsockname()[1]}/"),
            await failure(web, f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"),
            await failure(web, f"http://127.0.0.1:{free_port()}/"),
            await failure(web, server.url + "/500"),
        ]
    assert [type(error) for error in found] == [DnsFailed, TlsFailed, TlsFailed, ConnectionFailed, ServerFailed]
    assert "certificate verify failed" in str(found[1])


# Sitemaps


async def urls_of(web: Web, url: str) -> list[str]:
    return [found.url async for found in web.sitemap(url)]


def urlset(*paths: str) -> str:
    return "<urlset>" + "".join(f"<url><loc>{path}</loc></url>" for path in paths) + "</urlset>"


async def test_a_sitemap_is_read_however_it_is_packed_and_named(web: Web) -> None:
    async with raw_server({}) as server:
        text = urlset(
            f"{server.url}/a", f"{server.url}/a#x", f"{server.url}/b?x=1&amp;y=2", "http://other/c", "mailto:x"
        )
        packed = gzip.compress(text.encode())
        server.pages |= {
            "/plain.xml": answer(text, content_type="text/xml"),
            "/sent.xml": answer(packed, content_encoding="gzip"),
            "/file.xml.gz": answer(packed, content_type="application/x-gzip"),
            "/both.xml.gz": answer(gzip.compress(packed), content_encoding="gzip"),
            "/moved": redirect("/plain.xml"),
            "/robots.txt": answer(f"Sitemap: {server.url}/plain.xml\nSitemap: /sent.xml", content_type="text/plain"),
        }
        pages = [f"{server.url}/a", f"{server.url}/a", f"{server.url}/b?x=1&y=2"]
        for path in ("/plain.xml", "/sent.xml", "/file.xml.gz", "/both.xml.gz", "/moved"):
            assert await urls_of(web, server.url + path) == pages
        assert await urls_of(web, server.url + "/robots.txt") == pages * 2


async def test_a_sitemap_that_breaks_off_is_read_again_and_one_that_is_not_there_is_an_error(web: Web) -> None:
    async with raw_server({}) as server:
        whole = answer(urlset(f"{server.url}/a"))
        server.pages |= {"/s.xml": [whole[:-4], whole], "/broken.xml": answer("<urlset><url>")}
        assert set(await urls_of(web, server.url + "/s.xml")) == {f"{server.url}/a"}
        with pytest.raises(BrokenSitemap):
            await urls_of(web, server.url + "/broken.xml")
        with pytest.raises(Reject, match="HTTP 404"):
            await urls_of(web, server.url + "/none.xml")


async def test_a_sitemap_of_example_org_names_pages_of_www_example_org_too() -> None:
    async with Crawler("x", scope=Scope(skip=("/no*",))).open() as web, raw_server({}) as server:
        server.pages["/s.xml"] = answer(urlset(server.url.replace("127", "www.127") + "/a", f"{server.url}/no"))
        [found] = [link async for link in web.sitemap(server.url + "/s.xml")]
    assert found.host == found.site
    assert found.host.startswith("www.127")


async def test_a_page_of_a_sitemap_does_not_take_the_crawl_to_another_site(web: Web) -> None:
    async with raw_server({"/a": redirect("http://other.test/")}) as server:
        server.pages["/s.xml"] = answer(urlset(f"{server.url}/a"))
        [found] = [link async for link in web.sitemap(server.url.removeprefix("http://") + "/s.xml")]
        assert await web.fetch(found) == []


async def test_a_sitemap_is_whole_before_its_first_page_is_given(web: Web) -> None:
    """A crawl takes its pages for hours; no server keeps a connection open for so long."""
    async with raw_server({}) as server:
        text = urlset(*(f"{server.url}/{n}" for n in range(50_000)))
        server.pages["/s.xml"] = answer(text)
        pages = web.sitemap(server.url + "/s.xml")
        first = await anext(pages)
        server.pages["/s.xml"] = b""
        assert 1 + len([page async for page in pages]) == 50_000
    assert first.url == f"{server.url}/0"
    assert server.paths == ["/s.xml"]
