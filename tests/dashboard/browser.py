"""A real browser for tests of the web page: one chromium for a module, windows of its sizes and colours, and axe.

Tests that use it are plain functions: playwright's own event loop runs in this thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # pyright: ignore[reportMissingTypeStubs]
from playwright.sync_api import Browser, BrowserContext, Error, Page, ViewportSize, expect, sync_playwright

from tests.requirements import unavailable

Colours = Literal["light", "dark"]
COLOURS: tuple[Colours, ...] = ("light", "dark")
WIDTHS = (390, 1280, 1920)
HEIGHTS = {390: 844, 1280: 800, 1920: 1080}
EXPECT_MS = 60_000  # a safety net for what never comes
expect.set_options(timeout=EXPECT_MS)

# WCAG 2.2 AA and best practices; they are all on unless axe calls them experimental.
AXE_OPTIONS: Mapping[str, Any] = {"rules": {"target-size": {"enabled": True}}}
_SHOW_CUT_CARDS = """shown => {
    for (const card of document.querySelectorAll('.sheet.moves .card')) {
        const box = card.getBoundingClientRect(), frame = card.closest('.sheet').getBoundingClientRect();
        const isWhole = box.left >= frame.left && box.right <= frame.right
            && box.top >= frame.top && box.bottom <= frame.bottom;
        card.style.visibility = shown || isWhole ? '' : 'hidden';
    }
}"""
_LEFT_OUT = "Transition was aborted because of invalid state. Page already revealed"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    executable = shutil.which("chromium")
    if executable is None:
        unavailable("there is no chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


OpenWindow = Callable[..., BrowserContext]


@pytest.fixture
def open_window(chromium: Browser) -> Iterator[OpenWindow]:
    """Open windows, each with a profile of its own, by their width in pixels and their colours."""
    with ExitStack() as windows:

        def opened(width: int = 1280, colours: Colours = "light", **options: Any) -> BrowserContext:
            viewport: ViewportSize = {"width": width, "height": HEIGHTS.get(width, 800)}
            window = chromium.new_context(viewport=viewport, color_scheme=colours, **options)
            window.set_default_timeout(EXPECT_MS)
            windows.callback(window.close)
            return window

        yield opened


@pytest.fixture
def page(open_window: OpenWindow) -> Iterator[Page]:
    """A page of 1280 × 800; the test fails if a script of it failed, or if the browser blocked something."""
    page = open_window().new_page()
    faults = faults_of(page)
    yield page
    assert faults == [], faults  # pytest itself explains asserts of test modules only


def faults_of(page: Page) -> list[str]:
    """Errors in a page from now on: failed scripts, and what its content security policy blocked."""
    faults = list[str]()
    page.on("pageerror", lambda error: None if _is_left_out_transition(error) else faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    return faults


def _is_left_out_transition(error: Error) -> bool:
    """Whether a busy chromium has gone on to the next page without the transition that its style asks for.

    It then rejects a promise of its own, often before the first script runs (w3c/csswg-drafts#13726).
    """
    return (error.name, error.message) == ("InvalidStateError", _LEFT_OUT)


def found_by_axe(
    page: Page, options: Mapping[str, Any] = AXE_OPTIONS, context: dict[str, Any] | None = None
) -> list[str]:
    """The accessibility violations in a page or in a context of it, each with its element.

    Axe takes a card that the frame of a large graph cuts off as a whole one, which then seems to cover the buttons
    beside the frame. It does not see such cards.
    """
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")  # half faded in has no contrast
    page.evaluate(_SHOW_CUT_CARDS, False)
    results: Any = Axe().run(page, context, {"resultTypes": ["violations"], **options})  # pyright: ignore[reportUnknownMemberType]
    page.evaluate(_SHOW_CUT_CARDS, True)
    return [
        f"{fault['id']}: {node['html'][:160]} ({node['failureSummary'].splitlines()[1].strip()})"
        for fault in results.response["violations"]
        for node in fault["nodes"]
    ]


def is_wider_than_its_window(page: Page) -> bool:
    """Whether the page as a whole scrolls sideways; tables and graphs scroll within themselves."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
