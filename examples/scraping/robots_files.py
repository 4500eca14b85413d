"""Over 4,231 real robots.txt: what flowq.scraping makes of them, beside a port of Google's parser.

The files ship in the source archive of Protego. `python -m examples.scraping.robots_files` compares all of them, which
takes a minute, and prints each URL of which the two think differently.
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
MOST_URLS = 12  # of one file
_RULE = re.compile(rb"^\s*(?:dis)?allow\s*:\s*(/\S*)", re.IGNORECASE | re.MULTILINE)
_CACHE = Path(__file__).parents[2] / ".robots"

EXPLAINED = {
    # To us, and to Protego, Crawl-delay ends the lines that say whom a group is for; to Google it is not there, so that
    # "User-agent: *, Crawl-delay: 9, User-agent: X, Disallow: /" forbids everything to everybody.
    "bitbucket.org": "Crawl-delay ends the head of a group",
    "www.congress.gov": "Crawl-delay ends the head of a group",
    "www.khaleejtimes.com": "Crawl-delay ends the head of a group",
    "www.monstersandcritics.com": "Crawl-delay ends the head of a group",
    "www.cancerresearchuk.org": "to Google, a folder whose index.htm is allowed is allowed itself",
    "www.turktelekom.com.tr": "a rule that is broken over two lines counts here, and not there",
    # RFC 9309, 2.2.2: what a URL must encode is encoded before the two are compared, such as "[" and "|".
    **dict.fromkeys(
        (
            *("www.campaignmonitor.com", "www.cdiscount.com", "www.harveynorman.com.au", "www.hindustantimes.com"),
            *("www.homedepot.com", "www.hottopic.com", "www.rushlimbaugh.com", "www.target.com"),
            "www.thestudentroom.co.uk",
        ),
        "to Google, a rule with characters that no URL has is for no URL",
    ),
}
"""Why the two differ, by file."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One URL of which two implementations think differently."""

    file: str
    url: str
    allowed: bool

    def __str__(self) -> str:
        ours, theirs = ("allowed", "forbidden") if self.allowed else ("forbidden", "allowed")
        return f"{self.file:<28} {self.url:<60} {ours} here, {theirs} there: {EXPLAINED.get(self.file, '?')}"


def robots_files() -> list[Path]:
    """The files, each named after its host; fetched at the first call. Raises PackageUnavailable."""
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
    """Where the two differ: the start page, and the paths that the rules of the file name."""
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
        except TypeError:  # it breaks on lines without a colon
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
