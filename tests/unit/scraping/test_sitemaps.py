"""Sitemaps, whole and broken, read as they arrive."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import date

import pytest

from flowq.scraping import BrokenSitemap, Entry
from flowq.scraping.sitemaps import SitemapReader, walk

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
URLS = (
    f"<?xml version='1.0'?><urlset {NAMESPACE}><url><loc> http://h/a?x=1&amp;y=2 </loc><lastmod>2026-11-01</lastmod>"
    "<image:image xmlns:image='http://i'><image:loc>http://h/no.png</image:loc></image:image></url>"
    "<url><lastmod>2026</lastmod><loc><![CDATA[http://h/b]]></loc></url><url><loc/></url></urlset>"
)
ENTRIES = [Entry("http://h/a?x=1&y=2", "2026-11-01"), Entry("http://h/b", "2026")]


def entries(body: bytes, piece: int = 10_000) -> list[Entry]:
    reader = SitemapReader()
    found = [entry for at in range(0, len(body), piece) for entry in reader.feed(body[at : at + piece])]
    return found + list(reader.finish())


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        URLS.encode(),
        b"\xef\xbb\xbf \n" + URLS.encode(),
        URLS.replace(f" {NAMESPACE}", "").encode(),
        URLS.replace("'1.0'", "'1.0' encoding='utf-16'").encode("utf-16"),
    ],
    ids=["plain", "byte order mark", "no namespace", "utf-16"],
)
def test_the_pages_are_given_in_order_however_the_bytes_arrive(body: bytes, piece: int) -> None:
    assert entries(body.lstrip() if body.startswith(b" ") else body, piece) == ENTRIES


def test_an_index_names_sitemaps() -> None:
    body = f"<sitemapindex {NAMESPACE}><sitemap><loc>http://h/1.xml</loc></sitemap></sitemapindex>"
    assert entries(body.encode()) == [Entry("http://h/1.xml", is_index=True)]


def test_a_text_file_names_a_page_in_each_line() -> None:
    assert entries(b"http://h/a\r\n\n http://h/b \nhttp://h/c", 3) == [Entry(f"http://h/{name}") for name in "abc"]


@pytest.mark.parametrize(
    "body", [URLS.encode()[:-9], URLS.encode()[:-40] + b"<&>", b"<html><p>not found</p></html>", b"x" * 100_000]
)
def test_a_broken_sitemap_gives_what_came_before_and_then_an_error(body: bytes) -> None:
    reader, found = SitemapReader(), list[Entry]()

    def read() -> None:
        found.extend(reader.feed(body[:300]))
        found.extend(reader.feed(body[300:]))
        found.extend(reader.finish())

    with pytest.raises(BrokenSitemap):
        read()
    assert found == (ENTRIES[: len(found)] if body.startswith(b"<?xml") else [])


def test_fifty_thousand_pages_and_more_pass_in_little_memory() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"<urlset>"
        for n in range(0, 60_000, 100):
            yield "".join(f"<url><loc>http://h/{m}{'x' * 900}</loc></url>" for m in range(n, n + 100)).encode()
        yield b"</urlset>"

    reader = SitemapReader()
    tracemalloc.start()
    try:
        count = sum(1 for piece in pieces() for _ in reader.feed(piece))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 60_000
    assert peak_bytes < 5_000_000  # of more than 50 MB


def test_entities_that_explode_are_refused() -> None:
    levels = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 12))
    with pytest.raises(BrokenSitemap):
        entries(f"<!DOCTYPE x [<!ENTITY e0 'x'>{levels}]><urlset><url><loc>&e11;</loc></url></urlset>".encode())


def test_what_comes_before_a_fault_in_the_same_piece_is_given() -> None:
    found = list[Entry]()
    with pytest.raises(BrokenSitemap):
        found.extend(iter(SitemapReader().feed(URLS.replace("<url><loc/>", "<url></loc>").encode())))
    # extend() keeps what an iterator gave before it failed
    assert found == ENTRIES


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_an_ampersand_that_is_not_written_as_xml_wants_it_is_part_of_the_address(piece: int) -> None:
    body = b"<urlset><url><loc>http://h/?a=1&b=2&amp;c=&#51;&copy;&lt;</loc></url><url><loc>http://h/b&</loc></url></urlset>"
    assert entries(body, piece) == [Entry("http://h/?a=1&b=2&c=3&copy;<"), Entry("http://h/b&")]


def test_feeds_are_sitemaps_too() -> None:
    rss = b"<rss version='2.0'><channel><link>http://h/</link><item><title>x</title><link>http://h/a</link></item></channel></rss>"
    atom = (
        b"<feed xmlns='http://www.w3.org/2005/Atom'><link rel='self' href='http://h/feed'/><entry>"
        b"<link rel='edit' href='http://h/no'/><link href='http://h/a'/><updated>2026-11-01T00:00:00Z</updated></entry></feed>"
    )
    assert entries(rss) == [Entry("http://h/a")]
    assert entries(atom) == [Entry("http://h/a", "2026-11-01T00:00:00Z")]


@pytest.mark.parametrize("body", [b'{"error": "no"}', b"Not found", b"http://h/a\nError 5\nhttp://h/b"])
def test_a_message_is_no_list_of_addresses(body: bytes) -> None:
    with pytest.raises(BrokenSitemap, match="neither XML nor a list"):
        entries(body)


@pytest.mark.parametrize("junk", ["<!-- x --><script>1</script>", "\n<b>Warning</b>", "\0\0"])
def test_bytes_after_a_complete_sitemap_are_ignored(junk: str) -> None:
    assert entries((URLS + junk).encode()) == ENTRIES
    assert entries((URLS + junk).encode(), 1) == ENTRIES


@pytest.mark.parametrize(
    "piece", [b"<x>" * 10_000, b"<x/>" * 10_000, b"<url><loc>" + b"x" * 50_000, b"<!--" + b"x" * 50_000]
)
def test_a_sitemap_that_would_fill_the_memory_is_refused_first(piece: bytes) -> None:
    reader, n_bytes = SitemapReader(), 0

    def read() -> None:
        nonlocal n_bytes
        list(reader.feed(b"<urlset>"))
        while n_bytes < 50_000_000:
            list(reader.feed(piece if n_bytes == 0 or not piece.endswith(b"xx") else b"x" * 50_000))
            n_bytes += len(piece)

    with pytest.raises(BrokenSitemap):
        read()
    assert n_bytes < 11_000_000


# Several


async def walked(
    sitemaps: dict[str, list[Entry] | Exception], since: date | None = None
) -> tuple[list[str], list[str]]:
    """The pages found and the sitemaps asked for."""
    asked = list[str]()

    async def read(url: str) -> AsyncIterator[Entry]:
        asked.append(url)
        found = sitemaps[url]
        if isinstance(found, Exception):
            raise found
        for entry in found:
            yield entry

    pages = list[str]()
    try:
        async for entry in walk("top", read, since=since):
            pages.append(entry.url)
    except BrokenSitemap as error:
        pages.append(str(error))
    return pages, asked


def index(*names: str) -> list[Entry]:
    return [Entry(name, is_index=True) for name in names]


async def test_each_sitemap_is_read_once_also_when_an_index_names_itself() -> None:
    found = await walked({"top": index("top", "a", "b", "a"), "a": [Entry("1")], "b": [*index("top"), Entry("2")]})
    assert found == (["1", "2"], ["top", "a", "b"])


async def test_a_broken_sitemap_does_not_keep_the_others_from_being_read() -> None:
    pages, asked = await walked({"top": index("a", "b"), "a": BrokenSitemap("broken"), "b": [Entry("2")]})
    assert pages == ["2", "broken"]
    assert asked == ["top", "a", "b"]


async def test_pages_that_say_they_are_unchanged_are_left_out_and_those_that_do_not_say_are_not() -> None:
    entries = [
        Entry("old", "2026-10-31T23:59:59Z"),
        Entry("new", "2026-11-01"),
        Entry("odd", "lately"),
        Entry("silent"),
    ]
    pages, _ = await walked({"top": entries}, since=date(2026, 11, 1))
    assert pages == ["new", "odd", "silent"]
