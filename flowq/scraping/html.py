"""Parses a page: title, links, and what it says about itself. Pure."""

from __future__ import annotations

import re
from functools import cached_property

from selectolax.lexbor import LexborHTMLParser, LexborNode
from w3lib.html import get_meta_refresh, strip_html5_whitespace

from flowq.errors import Reject
from flowq.scraping.robots import page_directives
from flowq.scraping.urls import normal_url

DEEPEST = 2_000
"""Nested elements. The time of a parser grows with the square: 22 s for 80,000, 15 ms for this many."""
_DEEPEST_OF_ALL = 20_000  # 2 s
_TAG = re.compile(r"<(?:!--|(/?)([a-zA-Z][^\s/>]*)(?:[^<>]*?(/)>)?)")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements that need no end tag, or end the one before them: however many follow each other, they are not nested.
_NOT_NESTING = _names("""
    a area base basefont bgsound body br button col colgroup dd dt embed frame head hr html img input keygen li
    link meta nobr optgroup option p param plaintext rb rp rt rtc script select source style tbody td textarea
    tfoot th thead title tr track wbr
""")
_RAW_TEXT = _names("script style textarea title xmp iframe noembed noframes")
# In drawings and formulas, "/>" ends an element. These elements of HTML end the drawing instead.
_FOREIGN = frozenset({"svg", "math"})
_ENDS_FOREIGN = _names("""
    b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta
    nobr ol p pre ruby s small span strong strike sub sup table tt u ul var
""")


class Html:
    """One parsed page. Raises Reject for a page that is nested too deeply to be parsed.

    text: the text of the page.
    url: its URL, from which relative links start.
    encoding: the encoding that it had, in which browsers write the query of a link ("utf-8").
    robots: its `X-Robots-Tag` headers ("").
    agent: the User-Agent of the crawler, for directives to it alone ("").
    obey_robots: False ignores robots meta tags, `robots` and `rel="nofollow"` (True).
    drop: patterns of query parameters to remove from links (none).

    >>> page = Html("<title>T</title><base href=/b/><a href=' c#d'>C</a><a rel=nofollow href=x>", "http://h/a")
    >>> page.title, page.links, page.anchors
    ('T', ['http://h/b/c'], 2)
    """

    def __init__(
        self,
        text: str,
        url: str,
        *,
        encoding: str = "utf-8",
        robots: str = "",
        agent: str = "",
        obey_robots: bool = True,
        drop: tuple[str, ...] = (),
    ) -> None:
        check_depth(text)
        self.url = url
        self._text = text
        self._encoding = encoding
        self._robots = robots
        self._agent = agent
        self._obeys = obey_robots
        self._drop = drop
        self._tree = LexborHTMLParser(text)
        # In a drawing, "xlink:href" matches too.
        self._anchors = self._tree.css("a[href], area[href]")

    @cached_property
    def title(self) -> str:
        """The text of `<title>`, on one line."""
        titles = (node for node in self._tree.css("title") if not _is_in_drawing(node))
        title = next(titles, None)
        return " ".join(title.text().split()) if title else ""

    @cached_property
    def base(self) -> str:
        """The URL that relative links start from: `<base href>` if it is a web address, else the URL of the page."""
        base = self._tree.css_first("base[href]")
        return (base and normal_url(_attribute(base, "href"), self.url)) or self.url

    @property
    def anchors(self) -> int:
        """How many `<a href>` the page has, including those that crawlers should not follow."""
        return sum(anchor.tag == "a" for anchor in self._anchors)

    @cached_property
    def links(self) -> list[str]:
        """The URLs that the page links to, in order, without those that it asks crawlers not to follow.

        They are those of `<a>` and `<area>`, of frames, and of a `<meta http-equiv="refresh">`.
        """
        if self._obeys and "nofollow" in self.directives:
            return []
        attributes = [node.attributes for node in self._anchors]
        if self._obeys:
            attributes = [each for each in attributes if "nofollow" not in (each.get("rel") or "").lower().split()]
        hrefs = [found.get("href") or found.get("xlink:href") or "" for found in attributes]
        hrefs += [_attribute(frame, "src") for frame in self._tree.css("frame[src], iframe[src]")]
        if (refresh := get_meta_refresh(self._text, max_scan=_HEAD_CHARACTERS)[1]) is not None:
            hrefs.append(refresh)
        base, encoding, drop = self.base, self._encoding, self._drop
        urls = [normal_url(href, base, drop=drop, encoding=encoding) for href in hrefs]
        return [url for url in urls if url is not None]

    @cached_property
    def canonical(self) -> str:
        """The URL that the page declares as its own (`<link rel="canonical">`), else the one it was fetched from."""
        for link in self._tree.css("link[rel][href]"):
            if "canonical" in _attribute(link, "rel").lower().split():
                return normal_url(_attribute(link, "href"), self.base, drop=self._drop) or self.url
        return self.url

    @cached_property
    def directives(self) -> frozenset[str]:
        """What `X-Robots-Tag` and `<meta name="robots">` say, such as "noindex" and "nofollow"."""
        names = {"robots", self._agent.lower()}
        metas = [m for m in self._tree.css("meta[name][content]") if _attribute(m, "name").lower().strip() in names]
        return page_directives(self._robots, *(_attribute(meta, "content") for meta in metas), agent=self._agent)

    @property
    def may_be_stored(self) -> bool:
        """Whether the page allows itself to be indexed."""
        return not (self._obeys and "noindex" in self.directives)


_HEAD_CHARACTERS = 100_000


def check_depth(text: str) -> None:
    """Raise Reject for a page that is nested more deeply than any written by hand."""
    if text.count("<") <= DEEPEST:
        return
    # Scripts and comments often contain text that looks like tags. But they are hard to recognise within drawings,
    # where <style> is an element like any other, so the text that is skipped must not be very deep either.
    if (
        _depth(text, limit=DEEPEST, skips_raw_text=True) > DEEPEST
        or _depth(text, limit=_DEEPEST_OF_ALL) > _DEEPEST_OF_ALL
    ):
        raise Reject(f"more than {DEEPEST:,} nested elements")


def _depth(text: str, *, limit: int, skips_raw_text: bool = False) -> int:
    """The deepest nesting of the elements of a page. Counting stops above `limit`."""
    depth, deepest, in_foreign, at = 0, 0, False, 0
    while (found := _TAG.search(text, at)) and deepest <= limit:
        at = found.end()
        closing, name, closes_itself = found.groups()
        if name is None:
            at = _after(text, "-->", at) if skips_raw_text else at
            continue
        name = name.lower()
        in_foreign = (in_foreign and name not in _ENDS_FOREIGN) if name not in _FOREIGN else not closing
        if skips_raw_text and name in _RAW_TEXT and not closing and not in_foreign:
            at = _after(text, f"</{name}", at)
            continue
        if name in _NOT_NESTING or (in_foreign and closes_itself):
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        deepest = max(depth, deepest)
    return deepest


def _after(text: str, end: str, at: int) -> int:
    found = re.compile(re.escape(end), re.IGNORECASE).search(text, at)
    return found.end() if found else len(text)


def _is_in_drawing(node: LexborNode) -> bool:
    parent = node.parent
    while parent is not None and parent.tag != "svg":
        parent = parent.parent
    return parent is not None


def _attribute(node: LexborNode, name: str) -> str:
    return strip_html5_whitespace(node.attributes.get(name) or "")
