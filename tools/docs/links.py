"""Finds links of the built site that lead nowhere: pages, files, anchors; those to other hosts by form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors = {"", "__skip"}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's anchor and links."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


@cache
def _read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text())
    return page


def dead_links(site: Path) -> Iterator[str]:
    """Each link that leads nowhere, with the page that has it."""
    for file in sorted(site.rglob("*.html")):
        if file.name == "404.html":
            continue  # its links are those of the other pages, from the root of a host
        for link in dict.fromkeys(_read(file).links):
            if not _leads_somewhere(file, link):
                yield f"{file.relative_to(site)}: {link} leads nowhere"


def _leads_somewhere(file: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return bool(re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc))
    if parts.scheme:
        return parts.scheme in ("mailto", "data")
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    images = (".svg", ".png")  # whose fragments say in which colours they are shown
    return target.suffix in images or target.suffix != ".html" or unquote(parts.fragment) in _read(target).anchors
