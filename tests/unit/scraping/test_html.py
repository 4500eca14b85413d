"""What a page contains: its links, and what crawlers may do with it."""

from __future__ import annotations

import time

import pytest
from selectolax.lexbor import LexborHTMLParser

from flowq.errors import Reject
from flowq.scraping import Crawler, Html, Page, Scope
from flowq.scraping.html import DEEPEST

AGENT = "my-crawler/1.0 (+https://example.org/bot)"


def page(text: str, *, robots: str = "", obey_robots: bool = True) -> Html:
    return Html(text, "http://h/a/page", robots=robots, agent=AGENT, obey_robots=obey_robots)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("<a href=b>", ["http://h/a/b"]),
        ("<a href=' b '>", ["http://h/a/b"]),
        ("<base href='/d/'><a href=p>", ["http://h/d/p"]),
        ("<a href=p><base href='/d/'>", ["http://h/d/p"]),
        ("<base target=x><base href=/d/><base href=/e/><a href=p>", ["http://h/d/p"]),
        ("<base href='javascript:x'><a href=p>", ["http://h/a/p"]),
        ("<base href='//cdn.test/x/'><a href=p>", ["http://cdn.test/x/p"]),
        ("<!-- <base href=/no/><a href=no> --><a href=p>", ["http://h/a/p"]),
        ("<script>'<a href=no>'</script><textarea><a href=no></textarea>", []),
        ("<a name=x><a><a href><a href=''>", ["http://h/a/page", "http://h/a/page"]),
        ("<map><area href=m></map>", ["http://h/a/m"]),
        ("<a href=mailto:x><a href='javascript:y'><a href='http://['><a href='tel:1'>", []),
        ("<a href='?a=1&amp;b=2'>", ["http://h/a/page?a=1&b=2"]),
        ("<meta http-equiv=refresh content='0; url=next'>", ["http://h/a/next"]),
        ("<a rel=nofollow href=x><a rel='NoFollow external' href=y><a rel=me href=z>", ["http://h/a/z"]),
        ("<meta name=robots content=nofollow><a href=x>", []),
        ("<META NAME=Robots CONTENT='NONE'><a href=x>", []),
        ("<meta name=googlebot content=nofollow><a href=x>", ["http://h/a/x"]),
    ],
)
def test_the_links_are_those_a_browser_sees_and_a_crawler_may_follow(text: str, links: list[str]) -> None:
    assert page(text).links == links


@pytest.mark.parametrize(
    ("meta", "header", "may_be_stored", "may_follow"),
    [
        ("", "", True, True),
        ("noindex", "", False, True),
        ("index, follow", "", True, True),
        ("", "noindex", False, True),
        ("", "none", False, False),
        ("", "googlebot: none", True, True),
        ("", "my-crawler: nofollow", True, False),
        ("", "googlebot: noindex, my-crawler: nofollow", True, False),
        ("", "max-snippet: 20, noindex", False, True),
        ("", "unavailable_after: 25 Jun 2010 15:00:00 PST, nofollow", True, False),
    ],
)
def test_a_page_says_what_may_be_done_with_it(meta: str, header: str, may_be_stored: bool, may_follow: bool) -> None:
    text = f"<meta name=robots content='{meta}'><a href=x>"
    assert page(text, robots=header).may_be_stored is may_be_stored
    assert bool(page(text, robots=header).links) is may_follow
    lax = page(text, robots=header, obey_robots=False)
    assert (lax.may_be_stored, len(lax.links)) == (True, 1)


def test_the_title_is_one_line_and_anchors_are_counted_whether_followed_or_not() -> None:
    found = page("<title>\n A\n  B </title><svg><title>no</title></svg><a href=x rel=nofollow><a href=mailto:y><a>")
    assert (found.title, found.anchors) == ("A B", 2)


CRAWLER = Crawler(AGENT, scope=Scope(max_depth=2), drop=("utm_*",))


@pytest.mark.parametrize(
    ("canonical", "address"),
    [
        ("/a", "http://h/a"),
        ("HTTP://H:80/a?utm_source=x#y", "http://h/a"),
        ("http://other/a", "http://h/a?p=1"),
        ("mailto:x", "http://h/a?p=1"),
        ("", "http://h/a?p=1"),
    ],
)
def test_a_page_is_stored_under_the_canonical_url_that_it_names_within_the_crawl(canonical: str, address: str) -> None:
    found = Page(url="http://h/a?p=1", site="h", html=f"<link rel='Canonical' href='{canonical}'>")
    assert CRAWLER.address(found, CRAWLER.read(found)) == address


def test_links_of_a_page_stay_in_the_scope_and_are_one_deeper() -> None:
    found = Page(url="http://h/", site="h", depth=1, html="<a href=b?utm_x=1><a href=//other/><a href=//h/c>")
    links = CRAWLER.follow(found, CRAWLER.read(found))
    assert [(link.url, link.depth, link.site) for link in links] == [("http://h/b", 2, "h"), ("http://h/c", 2, "h")]
    deeper = found.model_copy(update={"depth": 2})
    assert CRAWLER.follow(deeper, CRAWLER.read(deeper)) == []


# Depth


@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 80_000,
        "<x-a>" * 80_000,
        "<b>" * 80_000,
        "<div/>" * 80_000,
        "<svg><div>" + "<path/>" * 80_000,
        "<div a='<'>" * 80_000,
        "<ul><li>" * 40_000,
        "<table><tr><td>" * 30_000,
    ],
    ids=range(8),
)
def test_a_page_nested_too_deep_is_rejected_before_it_is_parsed(text: str) -> None:
    with pytest.raises(Reject, match="nested elements"):
        page(text)


@pytest.mark.parametrize(
    "text",
    [
        "<ul>" + "<li>x" * 50_000,
        "<p>x" * 50_000,
        "<table>" + "<tr><td>x" * 20_000,
        "<div></div>" * 50_000,
        "<svg>" + "<path d='M 0 0'/>" * 50_000 + "</svg>",
        "<dl>" + "<dt>a<dd>b" * 20_000,
        "<a href=x>" * 3_000,
        "<br>" * 50_000,
    ],
    ids=range(8),
)
def test_a_long_page_is_no_deep_page(text: str) -> None:
    assert page(text).title == ""


def test_the_deepest_page_that_is_parsed_costs_little_beside_one_ten_times_as_deep() -> None:
    def seconds(depth: int) -> float:
        began = time.process_time()
        LexborHTMLParser("<div>" * depth)
        return time.process_time() - began

    assert min(seconds(DEEPEST) for _ in range(3)) < min(seconds(10 * DEEPEST) for _ in range(2)) / 10


def test_frames_are_links_and_so_are_those_of_drawings() -> None:
    text = "<frameset><frame src=a><frame></frameset>"
    assert Html(text, "http://h/").links == ["http://h/a"]
    text = "<iframe src='b#x'></iframe><svg><a xlink:href=c><title>no</title></a><a href=d></a></svg><title>T</title>"
    page = Html(text, "http://h/")
    assert (page.title, page.anchors) == ("T", 2)
    assert sorted(page.links) == ["http://h/b", "http://h/c", "http://h/d"]


@pytest.mark.parametrize(
    "text",
    [
        "<script>let x = '{}'</script>",
        "<script>for (;i<n;) {}</script>",
        "<!-- {} -->",
        "<textarea>{}</textarea>",
        "<svg><path/></svg><style>/* {} */</style>",
        "<SCRIPT>{}</Script>",
    ],
)
def test_tags_in_scripts_and_comments_are_no_depth(text: str) -> None:
    deep = text.replace("{}", "<div><p>" * (DEEPEST + 1)).replace("i<n", "i<n;" * (DEEPEST + 1))
    assert Html(deep + "<title>T</title>", "http://h/").title == "T"


@pytest.mark.parametrize(
    "start", ["<svg><style>", "<svg><foreignObject><p></p></foreignObject><style>", "<script></script>", "<!-- -->"]
)
def test_no_element_hides_how_deep_a_page_is(start: str) -> None:
    with pytest.raises(Reject, match="nested elements"):
        Html(start + "<g>" * 80_000, "http://h/")


def test_a_directive_for_another_crawler_whose_name_is_a_part_of_ours_is_not_meant() -> None:
    for name, is_meant in [("crawler", False), ("my", False), ("my-crawler", True), ("My-Crawler", True)]:
        page = Html("", "http://h/", robots=f"{name}: noindex", agent="my-crawler/1.0 (+https://h/bot)")
        assert page.may_be_stored is not is_meant
