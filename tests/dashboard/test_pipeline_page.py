"""The page of a pipeline, in a browser: watched while it works, opened at a stage, moved along, and shown as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import OpenWindow, faults_of
from tests.dashboard.event_stream import events_in
from tests.dashboard.scenes import catalogue
from tests.dashboard.web_page import WebPage

CRAWL = """
from __future__ import annotations
import asyncio
from collections.abc import AsyncIterator
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, source, stage

class Link(BaseModel):
    url: str
    host: str = "example.org"

class Doc(BaseModel):
    url: str

@source
async def seeds() -> AsyncIterator[Link]:
    for n in range(1_000_000):
        yield Link(url=f"https://example.org/{n}")
        await asyncio.sleep(0.02)

@stage(rate=Rate(1000, by="host"), concurrency=4, maxsize=2000)
async def fetch(link: Link) -> Doc | Link:
    if link.url.endswith("7"): raise Reject("HTTP 404")
    return Doc(url=link.url)

@stage
async def store(doc: Doc) -> None: ...

crawl = Pipeline("crawl", seeds >> fetch >> (store | fetch))
"""


@pytest.fixture(scope="module")
def served() -> Iterator[WebPage]:
    """A crawl at work, and a pipeline of 49 stages that has never run."""
    with WebPage({"crawl": CRAWL, "catalogue": catalogue()}) as served:
        served.project.start("run", "crawl")
        yield served


def number(page: Page, slot: str) -> int:
    return int((page.locator(f'[data-live="{slot}"]').first.text_content() or "").replace(",", ""))


def works(page: Page) -> None:
    """Wait until the crawl has begun and the page shows its progress."""
    page.locator('body[data-conn="live"]').wait_for()
    expect(page.locator('[data-live="p.ok"]')).not_to_have_text("0")


def test_a_crawl_is_watched_and_its_numbers_change_without_a_reload(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/crawl")
    works(page)
    page.evaluate("window.isTheSame = true")
    before = {slot: number(page, slot) for slot in ("p.ok", "s.fetch.in", "s.store.ok", "e.fetch>store.in")}

    for slot, n in before.items():
        expect(page.locator(f'[data-live="{slot}"]').first).not_to_have_text(f"{n:,}")
        assert number(page, slot) > n
    assert page.evaluate("window.isTheSame") is True
    expect(page.locator('[data-live="p.sum"]')).to_have_text("adds up")


def test_the_first_paint_is_complete_without_a_script(served: WebPage, open_window: OpenWindow) -> None:
    served.get("/p/crawl")
    page = open_window(java_script_enabled=False).new_page()
    page.goto(f"{served.url}/p/crawl")

    expect(page.locator(".node")).to_have_count(3)
    expect(page.locator(".queue")).to_have_count(3)
    expect(page.locator(".headline")).to_contain_text("left")
    assert [row.text_content() for row in page.locator(".stages:not(.edges) tbody th > a").all()] == [
        "seeds",
        "fetch",
        "store",
    ]
    expect(page.locator(".edges tbody tr")).to_have_count(3)


def test_the_slider_shows_a_moment_of_the_past_and_goes_back_to_live(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/crawl")
    works(page)
    slider = page.locator("#moment")
    expect(slider).not_to_have_attribute("min", re.compile(r"^(0|-5)$"))  # ten seconds of history

    slider.focus()
    slider.press("Home")
    expect(page.locator("body")).to_have_attribute("data-past", "")
    expect(page.locator("#shown")).to_have_text(re.compile(r"\d+ s ago|\d+ min ago"))
    page.wait_for_function("() => document.querySelector('#moment').getAttribute('aria-valuetext').endsWith('ago')")
    past = number(page, "p.ok")
    page.keyboard.press("l")
    expect(page.locator("body")).not_to_have_attribute("data-past", "")
    expect(page.locator("#shown")).to_have_text("now")
    page.wait_for_function(
        "n => Number(document.querySelector('[data-live=\"p.ok\"]').textContent.replace(',', '')) > n", arg=past
    )


def test_a_stage_opens_beside_the_graph_and_closing_it_leads_back_to_its_card(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/crawl")
    works(page)
    page.locator("#card-fetch").focus()
    page.keyboard.press("Enter")

    drawer = page.get_by_role("complementary", name="fetch")
    expect(drawer).to_be_visible()
    expect(page).to_have_url(f"{served.url}/p/crawl/s/fetch")
    expect(drawer.locator(".kicker")).to_contain_text("crawl.py:")
    expect(drawer.locator(".because")).not_to_be_empty()
    expect(drawer.locator(".facts")).to_contain_text("concurrency")
    expect(drawer.locator(".cli code").first).to_have_text("flowq pause crawl.fetch")
    expect(drawer.get_by_role("button", name="Pause")).to_have_count(0)
    expect(page.locator("#card-fetch")).to_have_attribute("aria-current", "true")
    before = number(page, "s.fetch.in")
    expect(drawer.locator('[data-live="s.fetch.in"]')).not_to_have_text(f"{before:,}")

    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(page.locator("#card-fetch")).to_be_focused()


def test_what_died_in_a_stage_is_listed_by_kind(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/crawl")
    works(page)
    expect(page.locator('tr[data-row="fetch"]')).to_have_attribute("data-mortal", "yes")
    page.goto(f"{served.url}/p/crawl/s/fetch")

    kind = page.locator(".drawer .rows a", has_text="HTTP 404")
    expect(kind).to_be_visible()
    kind.click()
    expect(page).to_have_url(re.compile(r"/p/crawl/dead/\w+\?"))


def test_arrow_keys_go_along_the_edges(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/crawl")
    page.locator("#card-seeds").focus()
    for key, name in (("ArrowRight", "fetch"), ("ArrowRight", "store"), ("ArrowLeft", "fetch")):
        page.keyboard.press(key)
        expect(page.locator(f"#card-{name}")).to_be_focused()


def test_a_large_graph_is_moved_by_its_map_by_keys_and_by_the_focus(served: WebPage, page: Page) -> None:
    page.goto(f"{served.url}/p/catalogue")
    graph, lens = page.locator("#graph"), page.locator("#lens")
    expect(lens).to_have_attribute("width", re.compile(r"\d"))
    begin = graph.get_attribute("viewBox")

    page.locator("#minimap").click(position={"x": 500, "y": 50})
    expect(graph).not_to_have_attribute("viewBox", begin or "")
    usual = seen_width(page)
    page.get_by_role("button", name="Show the whole graph").click()
    assert seen_width(page) > usual
    for _ in range(6):
        page.keyboard.press("+")
    assert seen_width(page) < usual
    page.locator("#card-publish").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#card-merge_product")).to_be_focused()
    assert is_in_view(page, "#card-merge_product .box")


def seen_width(page: Page) -> float:
    """How much of the graph is seen."""
    return float((page.locator("#graph").get_attribute("viewBox") or "").split()[2])


def is_in_view(page: Page, selector: str) -> bool:
    box, sheet = page.locator(selector).bounding_box(), page.locator("#sheet").bounding_box()
    assert box
    assert sheet
    return sheet["x"] <= box["x"] and box["x"] + box["width"] <= sheet["x"] + sheet["width"]


def test_on_a_phone_the_stages_are_a_list_that_says_what_is_on_their_edges(
    served: WebPage, open_window: OpenWindow
) -> None:
    page = open_window(390).new_page()
    faults = faults_of(page)
    page.goto(f"{served.url}/p/crawl")

    expect(page.locator("#graph")).to_be_hidden()
    expect(page.locator('tr[data-row="fetch"] .outs')).to_contain_text("store")
    expect(page.locator('tr[data-row="fetch"] .outs')).to_be_visible()
    page.locator('tr[data-row="fetch"] th > a').click()
    drawer = page.get_by_role("complementary", name="fetch").bounding_box()
    assert drawer
    assert (drawer["x"], drawer["width"]) == (0, 390)
    assert faults == []


class _Slots(HTMLParser):
    """The slots that a page shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.found |= {slot} if (slot := of.get("data-live")) else set()
        self.found |= {pair.partition(":")[2] for pair in (of.get("data-attr") or "").split()}


@pytest.mark.parametrize(("name", "stages"), [("crawl", ("seeds", "fetch")), ("catalogue", ("feed", "merge_product"))])
def test_every_slot_has_a_place_on_the_pages_and_every_place_has_a_slot(
    served: WebPage, name: str, stages: tuple[str, str]
) -> None:
    with served.open("GET", f"/p/{name}/events") as stream:
        full = next(event for event in events_in(stream) if event.kind == "full")
    slots = set(full.data["set"])
    page = _Slots(served.get(f"/p/{name}").text).found
    drawers = [_Slots(served.get(f"/p/{name}/s/{stage}").text).found for stage in stages]

    assert page <= slots
    assert all(drawer <= slots for drawer in drawers)
    only_there = {slot.split(".", 2)[2] for drawer in drawers for slot in drawer - page}
    assert {slot for slot in slots - page if slot.split(".", 2)[2] not in only_there} == set()


def test_a_page_of_many_stages_is_small(served: WebPage) -> None:
    with served.open("GET", "/p/catalogue", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.read()) <= 40_000
