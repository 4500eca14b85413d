"""robots.txt by RFC 9309, compared with a second implementation on real files."""

from __future__ import annotations

from zlib import crc32

import pytest

from examples.packages import PackageUnavailable
from examples.scraping.robots_files import EXPLAINED, differences, robots_files
from flowq.errors import RetryLater
from flowq.scraping import Rules
from flowq.scraping.robots import LONGEST_CRAWL_DELAY_SECONDS, MOST_BYTES, rules_of_answer
from tests.requirements import unavailable

AGENT = "my-crawler"
FORBID = "User-agent: *\nDisallow: /private\n"


def allowed(body: bytes, path: str, agent: str = AGENT) -> bool:
    return Rules.parsed(body).allow(f"http://h{path}", agent=agent)


@pytest.mark.parametrize(
    "body",
    [
        FORBID.encode(),
        b"\xef\xbb\xbf" + FORBID.encode(),
        FORBID.encode("utf-16"),
        b"\xef\xbb\xbf" * 2 + FORBID.encode(),
        b"\xfe\xff" + FORBID.encode("utf-16-be"),
        ("# Zürich\n" + FORBID).encode("latin-1"),
        FORBID.replace("\n", "\r").encode(),
        FORBID.replace("\n", "\r\n").encode(),
        ("Sitemap: /s.xml\n\n" + FORBID).encode(),
        FORBID.encode() + b"\0\xff\xfe binary",
    ],
)
def test_rules_are_found_however_the_file_is_written(body: bytes) -> None:
    assert not allowed(body, "/private/x")
    assert allowed(body, "/public")


@pytest.mark.parametrize(
    "body", [b"", b"<!DOCTYPE html><p>User-agent: *\nDisallow: /", b"\n <HTML>\nUser-agent: *\nDisallow: /", b"\0" * 99]
)
def test_what_is_no_robots_txt_forbids_nothing(body: bytes) -> None:
    assert allowed(body, "/")


@pytest.mark.parametrize(
    ("rules", "path", "is_allowed"),
    [  # RFC 9309, 2.2: the longest match wins, and of equals the one that allows
        ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("Allow: /a\nDisallow: /a/b", "/a/b/c", False),
        ("Disallow: /a\nAllow: /a", "/a", True),
        ("Disallow: /*.gif$", "/x/y.gif", False),
        ("Disallow: /*.gif$", "/x/y.gif?z", True),
        ("Disallow: /caf%C3%A9", "/caf%C3%A9/x", False),
        ("Disallow: /café", "/caf%C3%A9/x", False),
        ("Disallow:", "/a", True),
        ("Disallow: /", "/robots.txt", True),
        ("Disallow: /search?", "/search?q=1", False),
    ],
)
def test_rules_are_matched_as_the_rfc_says(rules: str, path: str, is_allowed: bool) -> None:
    assert allowed(f"User-agent: *\n{rules}\n".encode(), path) is is_allowed


def test_the_group_of_a_crawler_goes_before_that_of_all() -> None:
    body = b"User-agent: *\nDisallow: /\n\nUser-agent: My-Crawler\nDisallow: /b\n"
    assert allowed(body, "/a", "my-crawler/2.0 (+https://example.org)")
    assert not allowed(body, "/b", "my-crawler/2.0 (+https://example.org)")
    assert not allowed(body, "/a", "other")


@pytest.mark.parametrize(
    ("line", "is_meant"),
    [
        ("User-agent: my-crawler", True),
        ("user-AGENT:My-Crawler # ours", True),
        ("User-agent: my-crawler/9.1", True),
        ("User-agent: my-crawler*", True),
        ("User-agent: my", False),
        ("User-agent: crawler", False),
        ("User-agent: my-crawler-images", False),
        ("User-agent: example", False),
        ("User-agent: other", False),
    ],
)
def test_a_group_is_for_the_crawler_of_that_name_whatever_the_version(line: str, is_meant: bool) -> None:
    for agent in ("my-crawler", "My-Crawler/2.0 (+https://example.org/bot)", "Mozilla/5.0 (compatible; my-crawler/1)"):
        for line_break in ("\n", "\r\n", "\r"):
            body = f"User-agent: x\n{line}\nDisallow: /".replace("\n", line_break).encode()
            assert allowed(body, "/a", agent) is not is_meant


def test_only_the_first_half_megabyte_counts_and_no_rule_is_cut_in_two() -> None:
    head = b"User-agent: *\n"
    last = b"Disallow: /private\n"
    padding = b"# " + b"x" * (MOST_BYTES - len(head) - len(last) - 3) + b"\n"
    assert not allowed(head + padding + last, "/private")
    cut = b"Disallow: /private/only\n"
    assert allowed(head + padding + cut, "/private/x")
    assert allowed(head + padding + cut, "/p")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_file_that_is_not_there_forbids_nothing(status: int) -> None:
    rules = rules_of_answer(status, FORBID.encode(), retry_after_seconds=5)
    assert rules.allow("http://h/private", agent=AGENT)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_host_that_cannot_tell_its_rules_is_left_alone(status: int) -> None:
    with pytest.raises(RetryLater) as caught:
        rules_of_answer(status, b"", retry_after_seconds=7)
    assert (caught.value.after, caught.value.hold) == (7, "host")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Crawl-delay: 2", 2),
        ("Crawl-delay: 0.5", 0.5),
        ("crawl-delay: 9999999", LONGEST_CRAWL_DELAY_SECONDS),
        ("Crawl-delay: soon", 0),
        ("Crawl-delay: -3", 0),
        ("Crawl-delay: nan", 0),
        ("Request-rate: 1/10", 10),
        ("Crawl-delay: 2\nRequest-rate: 1/10", 10),
        ("", 0),
    ],
)
def test_the_delay_between_requests_is_the_longer_of_both_forms_within_an_hour(text: str, seconds: float) -> None:
    rules = Rules.parsed(f"User-agent: *\n{text}\nDisallow: /x\n".encode())
    assert rules.crawl_delay_seconds(AGENT) == seconds


def test_sitemaps_are_offered() -> None:
    rules = Rules.parsed(b"Sitemap: http://h/a.xml\nUser-agent: *\nDisallow: /\nsitemap: http://h/b.xml.gz\n")
    assert rules.sitemaps == ("http://h/a.xml", "http://h/b.xml.gz")


def test_real_files_mean_the_same_to_a_second_implementation_but_for_differences_that_are_explained() -> None:
    try:
        files = robots_files()
    except PackageUnavailable as error:
        unavailable(str(error), "the files are in the source archive of Protego, fetched once")
    assert len(files) == 4231
    some = [file for file in files if crc32(file.name.encode()) % 6 == 0 or file.name in EXPLAINED]
    found = {difference.file for file in some for difference in differences(file, most_urls=3)}
    assert found <= EXPLAINED.keys()
