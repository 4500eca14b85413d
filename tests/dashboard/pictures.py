"""Pictures of every page, in every width and colour: `python -m tests.dashboard.pictures [NAME...]`, build/dashboard/.

With `--docs` those of the documentation, after a few minutes. They are to be looked at: whether a page is beautiful is
no claim that a test can make.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.dashboard.browser import COLOURS, HEIGHTS, WIDTHS, Colours, is_wider_than_its_window
from tests.dashboard.scenes import scenes
from tests.dashboard.web_page import WebPage

FOLDER = Path("build/dashboard")
HISTORY_MS, LONG_HISTORY_MS = 60_000, 420_000  # so that lines of the last minutes have a shape
DOCS = Path("docs/pictures")
FOR_DOCS: Mapping[str, tuple[str, Colours]] = {
    "page-scrape-light": ("scrape", "light"),
    "page-scrape-dark": ("scrape", "dark"),
    "page-stage-dark": ("scrape.fetch", "dark"),
    "page-edit-light": ("scrape.edit", "light"),
}


def first_letter(page: Page) -> None:
    """From the kinds to the first letter of the most frequent one."""
    page.locator(".kinds .error").first.click()


def dialog(name: str) -> Callable[[Page], None]:
    """The dialog of an action on the first letter, with what its dry run says."""

    def open_it(page: Page) -> None:
        first_letter(page)
        page.get_by_role("button", name=name, exact=True).click()
        page.locator("dialog[open] [data-command]:not(:empty)").wait_for()

    return open_it


def traced(page: Page) -> None:
    """The family of the first letter."""
    first_letter(page)
    page.locator(".line-age a").last.click()
    page.locator(".family").wait_for()


def past(page: Page) -> None:
    """A moment of the last minutes."""
    page.locator("#moment").focus()
    for _ in range(3):
        page.keyboard.press("[")
    page.locator("body[data-past]").wait_for()


def lost(page: Page) -> None:
    """The server does not answer any more."""
    page.context.set_offline(True)
    page.evaluate("document.querySelector('[data-do=again]').click()")
    page.locator('body[data-conn="lost"]').wait_for()


def stays(page: Page) -> None:
    """Nothing to do."""


SHOTS: Mapping[str, tuple[str, Callable[[Page], None]]] = {
    "index": ("/", stays),
    "scrape": ("/p/scrape", stays),
    "scrape.fetch": ("/p/scrape/s/fetch", stays),
    "scrape.dead": ("/p/scrape/dead", stays),
    "scrape.letter": ("/p/scrape/dead", first_letter),
    "scrape.edit": ("/p/scrape/dead", dialog("Edit and retry")),
    "scrape.retry": ("/p/scrape/dead", dialog("Retry this kind")),
    "scrape.remove": ("/p/scrape/dead", dialog("Remove")),
    "scrape.trace": ("/p/scrape/dead", traced),
    "scrape.past": ("/p/scrape", past),
    "scrape.workers": ("/p/scrape/workers", stays),
    "dispatch": ("/p/dispatch", stays),
    "dispatch.email": ("/p/dispatch/s/email", stays),
    "catalogue": ("/p/catalogue", stays),
    "thumbnails": ("/p/thumbnails", stays),
    "none-dead": ("/p/thumbnails/dead", stays),
    "invoices": ("/p/invoices", stays),
    "not-found": ("/p/scrap", stays),
    "help": ("/p/scrape", lambda page: page.locator('[data-do="help"]').click()),
    "lost": ("/p/scrape", lost),
}


def main(*wanted: str) -> None:
    """Draw the named pictures, all of them, or those of the documentation."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for_docs = wanted == ("--docs",)
    with scenes("--allow-actions") as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        browser.new_page().wait_for_timeout(LONG_HISTORY_MS if for_docs else HISTORY_MS)
        if for_docs:
            for file, (name, colours) in FOR_DOCS.items():
                draw(browser, served, name, DOCS / f"{file}.png", 1280, colours, scale=2)
        else:
            for name, width, colours in product(wanted or SHOTS, WIDTHS, COLOURS):
                draw(browser, served, name, FOLDER / f"{name}.{width}.{colours}.png", width, colours, scale=1)
        browser.close()


def draw(
    browser: Browser, served: WebPage, name: str, file: Path, width: int, colours: Colours, *, scale: float
) -> None:
    """One picture; says where a page is wider than its window."""
    path, then = SHOTS[name]
    window = browser.new_context(
        viewport={"width": width, "height": HEIGHTS[width]}, color_scheme=colours, device_scale_factor=scale
    )
    page = window.new_page()
    page.goto(served.url + path)
    if path != "/p/scrap":
        page.locator('body[data-conn="live"]').wait_for()
    then(page)
    page.wait_for_timeout(400)  # the first numbers of the stream
    page.screenshot(path=file)
    if is_wider_than_its_window(page):
        print(f"{file.name}: scrolls sideways")
    window.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
