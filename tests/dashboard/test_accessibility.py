"""Everyone can use every page: with a screen reader, with the keyboard alone, enlarged, on a phone, in any colours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import OpenWindow, faults_of, found_by_axe, is_wider_than_its_window
from tests.dashboard.scenes import scenes
from tests.dashboard.web_page import WebPage

PAGES = [
    "/",
    "/?q=nothing",
    "/p/scrape",
    "/p/scrape/s/fetch",
    "/p/scrape/dead",
    "/p/scrape/trace",
    "/p/scrape/workers",
    "/p/dispatch",
    "/p/catalogue",
    "/p/thumbnails",
    "/p/thumbnails/dead",
    "/p/invoices/s/resize",
    "/p/nothing",
]
ENLARGED = {"320 px": 320, "200 %": 640}  # 640 px is what a window of 1280 px has at 200 %
LARGE_ENOUGH = {1280: 24, 390: 36}

SMALL_TARGETS = """least => [...document.querySelectorAll('button, summary, select, input, .button, .tabs a, .tool')]
    .filter(each => each.checkVisibility({visibilityProperty: true}) && !each.closest('dialog:not([open])'))
    .map(each => each.closest('label.check') ?? each)
    .filter(each => Math.min(each.getBoundingClientRect().width, each.getBoundingClientRect().height) < least - 0.5)
    .map(each => each.outerHTML.slice(0, 120))"""

COVERED_TOOLS = """() => [...document.querySelectorAll('.zoom .tool')].filter(tool => {
    const { left, top, right, bottom } = tool.getBoundingClientRect();
    const corners = [[left + 5, top + 5], [right - 5, top + 5], [left + 5, bottom - 5], [right - 5, bottom - 5]];
    return corners.some(([x, y]) => document.elementFromPoint(x, y)?.closest('.tool') !== tool);
}).length"""

# An outline of its own, or one around all of the row or card that the link covers.
FOCUS_IS_SEEN = """() => {
    const at = document.activeElement;
    if (at === document.body) return 'body';
    const seen = [null, '::after'].some(part => getComputedStyle(at, part).outlineStyle !== 'none');
    return seen ? '' : at.outerHTML.slice(0, 160);
}"""


@pytest.fixture(scope="module")
def served() -> Iterator[WebPage]:
    with scenes("--allow-actions") as page:
        yield page


def opened(window: OpenWindow, served: WebPage, path: str, width: int = 1280) -> Page:
    page = window(width).new_page()
    page.goto(served.url + path)
    return page


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_in_any_colours_or_width(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = opened(open_window, served, path)
    blocked = faults_of(page)
    found = list[str]()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours)
            found += [f"{width} {colours} {fault}" for fault in found_by_axe(page)]

    assert (found, blocked) == ([], [])


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_when_it_is_enlarged(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = opened(open_window, served, path)
    wide = list[str]()
    for size, width in ENLARGED.items():
        page.set_viewport_size({"width": width, "height": 600})
        wide += [size] * is_wider_than_its_window(page)

    assert wide == []


@pytest.mark.parametrize("path", PAGES)
def test_all_click_targets_are_large_enough(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = opened(open_window, served, path)
    small = list[str]()
    for width, least in LARGE_ENOUGH.items():
        page.set_viewport_size({"width": width, "height": 800})
        small += [f"{width}: {target}" for target in page.evaluate(SMALL_TARGETS, least)]

    assert small == []


def test_a_large_graph_covers_no_button_wherever_it_is_moved(served: WebPage, open_window: OpenWindow) -> None:
    page = opened(open_window, served, "/p/catalogue")
    places, covered = set[str | None](), list[str]()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for card in page.locator(".graph .card").all():
            card.focus()  # which moves the graph
            places.add(page.locator("#graph").get_attribute("viewBox"))
            covered += [f"{width}: {card.get_attribute('id')}"] * page.evaluate(COVERED_TOOLS)
    page.locator("#card-enrich_0").focus()
    page.set_viewport_size({"width": 390, "height": 800})  # the upper edge now cuts its row

    assert (covered, found_by_axe(page)) == ([], [])
    assert len(places) > 5


@pytest.mark.parametrize("path", ["/", "/p/scrape/s/fetch", "/p/scrape/dead", "/p/scrape/workers"])
def test_the_focus_is_visible_wherever_tab_leads(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = opened(open_window, served, path)
    unseen, places = list[str](), set[str]()
    for _ in range(60):
        page.keyboard.press("Tab")
        match page.evaluate(FOCUS_IS_SEEN):
            case "body":
                break
            case "":
                places.add(page.evaluate("document.activeElement.outerHTML"))
            case element:
                unseen.append(element)

    assert unseen == []
    assert len(places) > 5


def test_the_first_tab_stop_skips_to_the_content(served: WebPage, open_window: OpenWindow) -> None:
    page = opened(open_window, served, "/p/scrape")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_a_dialog_gives_the_focus_back(served: WebPage, open_window: OpenWindow) -> None:
    page = opened(open_window, served, "/p/scrape")
    page.get_by_role("button", name="Keyboard shortcuts").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")

    assert page.evaluate("document.activeElement.dataset.do") == "help"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/p/scrape/dead", ["Edit and retry", "Retry", "Retry this kind", "Remove", "Retry all"]),
        ("/p/scrape/s/fetch", ["Pause fetch", "Push a message", "Purge"]),
    ],
)
def test_dialogs_of_actions_are_accessible_and_give_the_focus_back(
    served: WebPage, open_window: OpenWindow, path: str, names: list[str]
) -> None:
    page = opened(open_window, served, path)
    if path.endswith("/dead"):
        page.locator(".kinds .error").first.click()
        page.wait_for_url("**/p/scrape/dead/*")  # with its scripts: before them a button does nothing
    found = list[str]()
    for name in names:
        button = page.get_by_role("button", name=name, exact=True)
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator("dialog[open] :is([data-command], .fits):not(:empty)").first).to_be_visible()  # checked
        found += [f"{name}: {fault}" for fault in found_by_axe(page)]
        page.keyboard.press("Escape")
        expect(button).to_be_focused()

    assert found == []


def test_single_keys_can_be_switched_off(served: WebPage, open_window: OpenWindow) -> None:
    page = opened(open_window, served, "/p/scrape")
    page.keyboard.press("?")
    page.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert not page.get_by_role("dialog", name="Keyboard shortcuts").is_visible()

    page.reload()
    page.keyboard.press("?")
    assert not page.get_by_role("dialog", name="Keyboard shortcuts").is_visible()


@pytest.mark.parametrize("path", ["/", "/p/scrape/s/fetch", "/p/scrape/dead", "/p/scrape/workers"])
def test_a_page_can_be_read_in_forced_colours(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = open_window(forced_colors="active").new_page()
    page.goto(served.url + path)

    assert found_by_axe(page) == []


@pytest.mark.parametrize("path", ["/", "/p/scrape", "/p/scrape/dead"])
def test_a_printed_page_shows_the_content_and_no_controls(served: WebPage, open_window: OpenWindow, path: str) -> None:
    page = opened(open_window, served, path, width=794)  # A4
    page.emulate_media(media="print")

    assert page.locator("main h1").count() == 1
    assert [each.inner_text() for each in page.locator("button, .tabs a").all() if each.is_visible()] == []


def test_nothing_moves_where_reduced_motion_is_preferred(served: WebPage, open_window: OpenWindow) -> None:
    page = open_window(reduced_motion="reduce").new_page()
    page.goto(served.url + "/p/scrape")
    page.keyboard.press("?")

    assert page.evaluate("getComputedStyle(document.querySelector('#help')).animationName") == "none"


def test_a_theme_that_was_chosen_stays(served: WebPage, open_window: OpenWindow) -> None:
    page = opened(open_window, served, "/")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 13, 17)"
