"""Whatever is in Redis, in an address or in a file name: on every page it is text, and no request goes elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Page, Request

from tests.dashboard.hostile import AWAY, EVIL, WORD, hostile_page
from tests.dashboard.web_page import Answer, WebPage

QUERY = quote(EVIL, safe="")
PAGES = ["/", "/p/p", "/p/p/s/take", "/p/p/s/store", "/p/p/dead", "/p/p/trace", "/p/p/workers"]
ADDRESSES = [
    *(f"/?q={QUERY}", f"/p/{QUERY}", f"/p/p/s/{QUERY}", f"/p/p/dead/{QUERY}", f"/p/p/dead/{QUERY}/{QUERY}"),
    *(f"/p/p/dead?{name}={QUERY}" for name in ("stage", "error", "since", "where", "in", QUERY)),
    *(f"/p/p/trace/{QUERY}", f"/p/p/trace?id={QUERY}", f"/p/p/at?t={QUERY}", f"/{QUERY}", f"/static/{QUERY}"),
    f"/p/p/trace/{quote(WORD, safe='')}",
]
FOREIGN = "img, iframe, object, embed, base, audio, video, style, script:not([src]), meta[http-equiv]"
LINKS = ["href", "src", "action", "formaction", "data-feed", "data-send", "data-check"]
AFTER = """([foreign, links]) => {
  const all = [...document.querySelectorAll("*")];
  const attributes = all.flatMap((element) => [...element.attributes].map(({ name, value }) => [name, value]));
  return {
    pwned: window.pwned ?? null,
    foreign: [...document.querySelectorAll(foreign)].map((element) => element.outerHTML.slice(0, 200)),
    handlers: attributes.filter(([name]) => name.startsWith("on") || name === "style"),
    links: attributes.filter(([name, value]) => links.includes(name) && !/^([/](?![/])|#)/.test(value)),
    text: document.body.innerText,
  };
}"""


@pytest.fixture(scope="module")
def hostile() -> Iterator[WebPage]:
    with hostile_page("--allow-actions") as served:
        yield served


class _Links(HTMLParser):
    """The addresses that a page links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if tag == "a" and name == "href"]


@pytest.fixture(scope="module")
def answers(hostile: WebPage) -> Mapping[str, Answer]:
    """All that can be reached by links, by its address."""
    found, left = dict[str, Answer](), list(PAGES)
    while left:
        path = left.pop()
        if path.startswith("/") and path not in found:
            found[path] = hostile.get(path)
            left += _Links(found[path].text).found if "html" in found[path].headers["content-type"] else []
    return found


def visited(page: Page, served: WebPage, path: str) -> str:
    """Open a page and check it; returns its text."""
    asked = list[Request]()

    def note(request: Request) -> None:
        asked.append(request)

    page.on("request", note)
    page.goto(served.url + path, wait_until="load")
    found = page.evaluate(AFTER, [FOREIGN, LINKS])
    page.remove_listener("request", note)
    text: str = found.pop("text")
    assert found == {"pwned": None, "foreign": [], "handlers": [], "links": []}, path
    assert {urlsplit(each.url).netloc for each in asked} == {served.address}, path
    return text


def test_every_page_shows_hostile_strings_as_text(hostile: WebPage, answers: Mapping[str, Answer], page: Page) -> None:
    paths = [
        path for path, answer in answers.items() if "attachment" not in answer.headers.get("content-disposition", "")
    ]
    texts = [visited(page, hostile, path) for path in paths]
    assert sum(f"https://{AWAY}/i.png" in text for text in texts) > 10
    assert any("<script>window.pwned=1</script>" in text for text in texts)
    assert not any("49 {% raw" in text for text in texts)


def test_hostile_strings_are_text_in_addresses_too(hostile: WebPage, page: Page) -> None:
    for path in ADDRESSES:
        visited(page, hostile, path)


def test_what_does_not_print_is_escaped_in_every_answer(hostile: WebPage, answers: Mapping[str, Answer]) -> None:
    others = {path: hostile.get(path) for path in (*ADDRESSES, "/p/p.json")}
    for path, answer in {**answers, **others}.items():
        assert answer.status < 500, (path, answer.text)
        assert [ascii(line) for line in answer.text.split("\n") if not line.isprintable()] == [], path


def test_a_long_message_makes_no_long_page_but_a_file(answers: Mapping[str, Answer]) -> None:
    pages = [answer for path, answer in answers.items() if not path.split("?")[0].endswith("/message")]
    files = [answer for answer in answers.values() if answer not in pages]
    assert max(len(answer.text) for answer in pages) < 500_000
    assert max(len(answer.text) for answer in files) > 1_000_000
    for answer in files:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_values_cannot_forge_events(hostile: WebPage) -> None:
    with hostile.open("GET", "/p/p/events", headers={"accept": "text/event-stream"}) as stream:
        raw = b""
        while not raw.endswith(b"\n\n"):
            raw += stream.readline().replace(b"\r\n", b"\n")
    lines = raw.decode().split("\n")
    assert all(re.match(r"(id|event|data|retry): |:|$", line) for line in lines), lines
    assert [line for line in lines if line.startswith("event:")] == ["event: full"]
    data = json.loads("".join(line.removeprefix("data: ") for line in lines if line.startswith("data:")))
    texts = json.dumps(data, ensure_ascii=False)
    assert texts.isprintable()
    assert f"https://{AWAY}/i.png" in texts
