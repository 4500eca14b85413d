"""Compares flowq.scraping with a port of Google's parser on 4,231 real robots.txt files.

The files ship in the source archive of Protego. `python -m examples.scraping.robots_files` compares all of them, in
a minute, and prints each URL on which the two disagree.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.packages import PackageUnavailable, from_pip
from flowq.scraping import Rules, normal_url

PROTEGO = "protego==0.7.0"
AGENT = "flowq-scrape"
MOST_URLS = 12  # per file
_RULE = re.compile(rb"^\s*(?:dis)?allow\s*:\s*(/\S*)", re.IGNORECASE | re.MULTILINE)
_CACHE = Path(__file__).parents[2] / ".robots"

EXPLAINED = {
    # For flowq and Protego, Crawl-delay ends the User-agent lines of a group; Google ignores it, so that
    # "User-agent: *, Crawl-delay: 9, User-agent: X, Disallow: /" forbids everything for all agents.
    "bitbucket.org": "Crawl-delay ends the head of a group",
    "www.congress.gov": "Crawl-delay ends the head of a group",
    "www.khaleejtimes.com": "Crawl-delay ends the head of a group",
    "www.monstersandcritics.com": "Crawl-delay ends the head of a group",
    "www.cancerresearchuk.org": "Google allows a folder whose index.htm is allowed",
    "www.turktelekom.com.tr": "a rule that is split over two lines counts here, but not there",
    # RFC 9309, 2.2.2: characters that URLs must encode, such as "[" and "|", are encoded before the comparison.
    **dict.fromkeys(
        (
            *("www.campaignmonitor.com", "www.cdiscount.com", "www.harveynorman.com.au", "www.hindustantimes.com"),
            *("www.homedepot.com", "www.hottopic.com", "www.rushlimbaugh.com", "www.target.com"),
            "www.thestudentroom.co.uk",
        ),
        "for Google, a rule with characters that no URL contains matches no URL",
    ),
}
"""Why the two differ, by file."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One URL on which the two implementations disagree."""

    file: str
    url: str
    allowed: bool

    def __str__(self) -> str:
        ours, theirs = ("allowed", "forbidden") if self.allowed else ("forbidden", "allowed")
        return f"{self.file:<28} {self.url:<60} {ours} here, {theirs} there: {EXPLAINED.get(self.file, '?')}"


def robots_files() -> list[Path]:
    """The files, each named after its host; fetched by the first call. Raises PackageUnavailable."""
    if not _CACHE.is_dir():
        with tempfile.TemporaryDirectory(prefix="robots-", dir=_CACHE.parent) as scratch:
            files = Path(scratch) / "files"
            files.mkdir()
            (files / ".gitignore").write_text("*\n")
            with tarfile.open(from_pip(PROTEGO, Path(scratch))) as archive:
                for member in archive:
                    content = archive.extractfile(member) if "/tests/test_data/" in member.name else None
                    if content is not None:
                        (files / Path(member.name).name).write_bytes(content.read())
            files.rename(_CACHE)
    return sorted(file for file in _CACHE.iterdir() if file.name != ".gitignore")


def differences(file: Path, *, most_urls: int = MOST_URLS) -> Iterator[Difference]:
    """The differences for the start page and for the paths in the rules of the file."""
    from gpyrobotstxt import robots_cc  # pyright: ignore[reportMissingTypeStubs]

    second: Any = robots_cc

    body = file.read_bytes()
    rules = Rules.parsed(body)
    paths = [found.split(b"#")[0].replace(b"*", b"x").rstrip(b"$").decode("latin-1") for found in _RULE.findall(body)]
    for path in dict.fromkeys(["/", *paths[: most_urls - 1]]):
        url = normal_url(f"http://{file.name}{path}")
        if url is None or path == "/robots.txt":  # which is always allowed (RFC 9309, 2.2.2)
            continue
        try:
            theirs = bool(second.RobotsMatcher().one_agent_allowed_by_robots(body, AGENT, url))
        except TypeError:  # it fails on lines without a colon
            return
        ours = rules.allow(url, agent=AGENT)
        if ours != theirs:
            yield Difference(file.name, url, ours)


def main() -> int:
    """Compare all of them."""
    try:
        files = robots_files()
    except PackageUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = [difference for file in files for difference in differences(file)]
    print(*found, sep="\n")
    print(f"{len(files):,} files, {len({difference.file for difference in found})} with differences")
    return int(any(difference.file not in EXPLAINED for difference in found))


if __name__ == "__main__":
    sys.exit(main())
