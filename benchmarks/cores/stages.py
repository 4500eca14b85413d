"""The same parsing in a thread and with process=True. A separate module, because child processes import it."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import cycle, islice

from pydantic import BaseModel

from examples.scraping.sites import site
from flowq import Pipeline, source, stage

PAGES = 300
LARGE_BYTES = 50_000


class Page(BaseModel):
    path: str
    html: str


class Counted(BaseModel):
    """The links of a page, and which interpreter spent how much processor time on it."""

    links: int
    interpreter: int
    cpu_seconds: float


class Links(HTMLParser):
    """Counts links in pure Python, holding the interpreter's lock all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += tag == "a" and any(name == "href" for name, _ in attrs)


@source
def pages() -> Iterator[Page]:
    """Emit large pages of a real site, repeated until there are enough."""
    found = site("sqlalchemy")
    large = [path for path in found.pages() if LARGE_BYTES < (found.root / path[1:]).stat().st_size < 10 * LARGE_BYTES]
    for path in islice(cycle(large), PAGES):
        yield Page(path=path, html=(found.root / path[1:]).read_text(encoding="utf-8", errors="replace"))


def count(page: Page) -> Counted:
    begun = time.thread_time()
    links = Links()
    links.feed(page.html)
    return Counted(links=links.count, interpreter=os.getpid(), cpu_seconds=time.thread_time() - begun)


@stage(concurrency=2, max_bytes=2_000_000)
def on_a_thread(page: Page) -> Counted:
    return count(page)


@stage(concurrency=2, process=True, max_bytes=2_000_000)
def in_a_process(page: Page) -> Counted:
    return count(page)


busy_seconds: defaultdict[int, float] = defaultdict(float)  # processor time by interpreter


@stage(inline=True)
def note(counted: Counted) -> None:
    busy_seconds[counted.interpreter] += counted.cpu_seconds


threads = Pipeline("threads", pages >> on_a_thread >> note)
processes = Pipeline("processes", pages >> in_a_process >> note)
