"""Which URLs a crawl may touch."""

from __future__ import annotations

import pytest

from flowq.errors import Reject
from flowq.scraping import Link, Scope
from flowq.scraping.answers import redirected

SUBDOMAINS = Scope(subdomains=True)
PATHS = Scope(only=("/docs/*",), skip=("*/private/*", "*?print=1"))


@pytest.mark.parametrize(
    ("scope", "url", "admitted"),
    [
        (Scope(), "http://h/a", True),
        (Scope(), "https://h/a", True),  # the same site, over TLS
        (Scope(), "http://h:8080/a", False),
        (Scope(), "http://www.h/a", False),
        (Scope(), "http://evil.test/h", False),
        (Scope(), "http://h@evil.test/", False),
        (SUBDOMAINS, "http://docs.h/a", True),
        (SUBDOMAINS, "http://noth/a", False),
        (Scope(hosts=("*.example.org",)), "http://a.example.org/", True),
        (Scope(hosts=("*.example.org",)), "http://example.org.evil.test/", False),
        (PATHS, "http://h/docs/a", True),
        (PATHS, "http://h/blog/a", False),
        (PATHS, "http://h/docs/private/a", False),
        (PATHS, "http://h/docs/a?print=1", False),
    ],
)
def test_a_url_is_admitted_by_its_host_and_path(scope: Scope, url: str, admitted: bool) -> None:
    assert scope.admits(url, site="h") is admitted


def test_a_site_with_www_has_its_subdomains_beside_it() -> None:
    assert SUBDOMAINS.admits("http://docs.example.org/", site="www.example.org")


def test_depth_is_counted_in_links_from_the_start() -> None:
    scope = Scope(max_depth=2)
    assert [scope.admits("http://h/", site="h", depth=depth) for depth in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("path", "admitted"),
    [
        ("/a/a/a/a", True),
        ("/a/a/a/a/a", False),
        ("/x/a/a/a/a/a/y.html", False),
        ("/en/b.html/en/b.html/en/b.html/en/b.html/en/b.html", False),
        ("/a/a/a/a/ab", True),
        ("/2026/20/20/20/20/26", True),
        ("/a/b/a/c/a/d/a/e/a/f/a", True),
    ],
)
def test_a_path_that_repeats_itself_is_a_trap(path: str, admitted: bool) -> None:
    assert Scope().admits(f"http://h{path}", site="h") is admitted
    assert Scope(max_repeats=None).admits(f"http://h{path}", site="h")


# Redirects

LINK = Link(url="http://h/a", site="h", depth=1)


def target(link: Link, location: str, scope: Scope | None = None) -> Link | None:
    return redirected(link, location, scope or Scope(), max_redirects=5)


def test_a_redirect_is_a_new_link_that_knows_its_way() -> None:
    assert target(LINK, "b") == Link(url="http://h/b", site="h", depth=1, via=("http://h/a",))


def test_a_redirect_out_of_the_scope_is_not_followed() -> None:
    assert target(LINK, "http://other/b") is None
    assert target(LINK, "/private", Scope(skip=("/private*",))) is None


def test_a_start_that_redirects_takes_the_crawl_along() -> None:
    moved = target(Link(url="http://h/", site="h"), "https://www.h/")
    assert moved is not None
    assert (moved.url, moved.site) == ("https://www.h/", "www.h")


@pytest.mark.parametrize("location", ["", "mailto:x", "http://[", "javascript:x"])
def test_a_redirect_to_nowhere_is_rejected(location: str) -> None:
    with pytest.raises(Reject):
        target(LINK, location)


def test_redirects_in_a_circle_and_on_and_on_are_rejected() -> None:
    with pytest.raises(Reject, match="circle"):
        target(LINK, "#same")
    with pytest.raises(Reject, match="circle"):
        target(Link(url="http://h/b", site="h", via=("http://h/a",)), "/a")
    with pytest.raises(Reject, match="5 redirects"):
        target(Link(url="http://h/6", site="h", via=tuple(f"http://h/{n}" for n in range(5))), "/7")
