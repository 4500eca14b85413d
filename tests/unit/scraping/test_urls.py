"""One spelling for each URL. Expected values come from the URL Standard and RFC 3986, not from our code."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from w3lib.url import canonicalize_url

from examples.scraping.sites import SiteUnavailable, site
from flowq.scraping import host_of, normal_url
from tests.requirements import unavailable

SAME = [
    ("http://h", "http://h/"),
    ("http://h?x", "http://h/?x"),
    ("HTTP://EXAMPLE.org/Path", "http://example.org/Path"),
    ("http://h:80/", "http://h/"),
    ("https://h:443/a", "https://h/a"),
    ("https://h:80/a", "https://h:80/a"),
    (" \n http://h/a \t", "http://h/a"),
    ("http://h/a\nb", "http://h/ab"),
    ("http://h/a#top", "http://h/a"),
    ("http://h/café", "http://h/caf%C3%A9"),
    ("http://h/caf%c3%a9", "http://h/caf%C3%A9"),
    ("http://h/a b", "http://h/a%20b"),
    ("http://h/%7Euser", "http://h/~user"),
    ("http://h/a%2Fb", "http://h/a%2Fb"),  # a slash in a name is no separator
    ("http://h/100%", "http://h/100%25"),
    ("http://h/a/./b/../c", "http://h/a/c"),
    ("http://h/../../a", "http://h/a"),
    ("http://h/%2e%2E/a", "http://h/a"),
    ("http://h/a//b", "http://h/a//b"),
    ("http://h\\a\\b?c\\d", "http://h/a/b?c%5Cd"),
    ("http:///h/a", "http://h/a"),
    ("http://münchen.de/", "http://xn--mnchen-3ya.de/"),
    ("http://XN--MNCHEN-3YA.de/", "http://xn--mnchen-3ya.de/"),
    ("http://[0:0::1]:8080/", "http://[::1]:8080/"),
    ("http://h/?b=1&a=2", "http://h/?b=1&a=2"),  # to some servers the order matters
    ("http://h/?wsdl", "http://h/?wsdl"),
    ("http://h/?q=a+b", "http://h/?q=a+b"),
    ("http://h/?q=%e4", "http://h/?q=%E4"),
    ("http://h/?", "http://h/"),
    ("http://u:p@h/", "http://u:p@h/"),
    ("http://u:@h/", "http://u@h/"),
    ("http://@h/", "http://h/"),
    ("http://example.org./a", "http://example.org/a"),
    ("http://example.org.:80/a", "http://example.org/a"),
    ("http://h:/a", "http://h/a"),
    ("http://EX%41mple%2eorg/", "http://example.org/"),
    ("http://faß.de/", "http://xn--fa-hia.de/"),  # browsers tell it from fass.de
    ("http://☃.net/", "http://xn--n3h.net/"),
    ("http://例え。jp/", "http://xn--r8jz45g.jp/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://h/c%2b%2b", "http://h/c%2B%2B"),  # object stores read "+" as a space
    ("http://h/c++", "http://h/c++"),
    ("http://h/a%2C%27b", "http://h/a%2C%27b"),
    ("http://h/a[b]|c", "http://h/a%5Bb%5D%7Cc"),  # which RFC 3986 allows in no other spelling
    ("http://h/%61?%61=%7e", "http://h/a?a=~"),
    ("http://h/a;v=1/b;w", "http://h/a;v=1/b;w"),
]
JOINED = [
    ("", "http://h/a/b?x=1", "http://h/a/b?x=1"),
    ("#x", "http://h/a/b?x=1", "http://h/a/b?x=1"),
    ("?y", "http://h/a/b?x=1", "http://h/a/b?y"),
    ("c", "http://h/a/b", "http://h/a/c"),
    ("c/ ", "http://h/a/b", "http://h/a/c/"),
    ("../c", "http://h/a/b/d", "http://h/a/c"),
    ("/c", "http://h/a/b", "http://h/c"),
    ("//other/c", "https://h/a", "https://other/c"),
    ("http:c", "http://h/a/b", "http://h/a/c"),
    ("https:c", "http://h/a/b", "https://c/"),
    ("a\\b", "http://h/x/", "http://h/x/a/b"),
]
NOWHERE = [
    *("mailto:me@example.org", "javascript:void(0)", " JavaScript:x", "data:text/html,x", "tel:+1"),
    *("ftp://h/a", "file:///etc", "about:blank", "http://", "//", "http://[", "http://[::1", "http://h:99999/"),
    *("http://h:x/", "http://a b/", "http://h/\ud800", "http://h/" + "x" * 10_000),
    *("http://h%2Fx/", "http://h%00/", "http://%E9.fr/"),
]


@pytest.mark.parametrize(("written", "normal"), SAME)
def test_every_spelling_has_one_normal_form(written: str, normal: str) -> None:
    assert normal_url(written) == normal


@pytest.mark.parametrize(("href", "base", "normal"), JOINED)
def test_a_relative_url_starts_from_its_page(href: str, base: str, normal: str) -> None:
    assert normal_url(href, base) == normal


@pytest.mark.parametrize("href", NOWHERE)
def test_what_is_no_web_address_leads_nowhere(href: str) -> None:
    assert normal_url(href, "http://h/a") is None


def test_the_query_is_written_in_the_encoding_of_the_page_and_the_path_in_utf_8() -> None:
    assert normal_url("/é?é", "http://h/", encoding="cp1252") == "http://h/%C3%A9?%E9"


def test_parameters_that_do_not_tell_pages_apart_are_dropped_by_name() -> None:
    url = "http://h/p?utm_source=a&id=1&UTM_x=2&sid=9&utm_medium"
    assert normal_url(url, drop=["utm_*", "sid"]) == "http://h/p?id=1&UTM_x=2"
    assert normal_url("http://h/p?sid=1", drop=["sid"]) == "http://h/p"


def test_session_ids_in_the_path_are_dropped_by_the_same_names() -> None:
    drop = ["jsessionid"]
    assert normal_url("http://h/a;jsessionid=1F/b;v=2?x", drop=drop) == "http://h/a/b;v=2?x"
    assert normal_url("http://h/a;jsessionid=1F", drop=drop) == "http://h/a"


@pytest.mark.parametrize(
    ("url", "host"), [("http://h/a", "h"), ("http://u:p@h:8080/", "h:8080"), ("http://[::1]:81/", "[::1]:81")]
)
def test_the_host_is_that_of_the_server_without_the_user(url: str, host: str) -> None:
    assert host_of(url) == host


PIECES = st.sampled_from(list("ab/?#:@.\\ é%[]&=;~+'|^`{}\"<>\u2028\x00\t")) | st.sampled_from(
    ["%2e", "%2F", "%zz", "..", "//", "://", "%C3", "xn--", "utm_x=1", "ß", "İ", ":80"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=12)


@given(
    st.sampled_from(["", "http://h/", "https://é.org/", "//h", "http://h?", "http://h:80", "HTTP:", "http://u@h/a;"]),
    TEXTS,
    st.sampled_from(["", "http://h/x/y?z", "https://h"]),
)
@example("", "//", "http://h/x/y?z")
def test_normalising_twice_changes_nothing(start: str, rest: str, base: str) -> None:
    normal = normal_url(start + rest, base)
    if normal is not None:
        assert normal_url(normal) == normal
        assert normal_url(normal, "http://other/") == normal
        assert normal.isascii()
        assert "#" not in normal


class Hrefs(HTMLParser):
    def __init__(self, urls: set[str]) -> None:
        super().__init__()
        self.urls = urls

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls.update(value for name, value in attrs if name == "href" and value)


@pytest.mark.parametrize("name", ["sphinx", "sqlalchemy"])
def test_every_link_of_real_sites_is_normalised_once_and_means_the_same(name: str) -> None:
    try:
        pages = site(name)
    except SiteUnavailable as error:
        unavailable(str(error), "the sites are Debian packages, fetched once")
    hrefs = set[str]()
    for path in sorted(Path(pages.root).rglob("*.html"))[:60]:
        Hrefs(hrefs).feed(path.read_text("utf-8", "replace"))
    assert len(hrefs) > 1_000
    base = "http://site.test/a/b.html"
    for href in hrefs:
        normal = normal_url(href, base)
        if normal is not None:
            assert normal_url(normal) == normal
            # The canonical form of w3lib, a second opinion, is the same for both.
            assert canonicalize_url(normal) == canonicalize_url(normal_url(canonicalize_url(normal)) or "")
