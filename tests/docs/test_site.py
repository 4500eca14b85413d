"""The documentation as a site: it builds without warnings, needs no network, and everyone can read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ViewportSize

from tests.dashboard.browser import Colours, OpenWindow, found_by_axe
from tools.docs.links import dead_links
from tools.docs.peers import peers_in, with_peers
from tools.docs.pictures import FIGURES, FOLDER, PAGE, pictures
from tools.docs.site import build

DOCS = Path(__file__).parents[2] / "docs"
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PARTS = 6  # of the pages: a test for each, which may run side by side
COLOURS = ("default", "slate")
# Code has the same few colours on all pages.
PAGES_FULL_OF_CODE = ("walkthrough.html", "flow-control.html", "settings.html")
ALL_BUT_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}}
ONLY_CONTRAST = {"runOnly": ["color-contrast"]}
IN_COLOURS = "document.body.dataset.mdColorScheme = '{}'"
WITHOUT_TRANSITIONS = "*, *::before, *::after { transition: none !important; animation: none !important }"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    assert build(folder, repository="https://code.example/flowq") == 0
    return folder / "site"


@pytest.fixture
def window(open_window: OpenWindow) -> BrowserContext:
    return open_window(PHONE["width"])


def pages_of(site: Path) -> list[Path]:
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


@pytest.mark.parametrize("part", range(PARTS))
def test_every_page_is_accessible_fits_a_phone_and_asks_no_other_host(
    site: Path, window: BrowserContext, part: int
) -> None:
    asked = list[str]()
    window.on("request", lambda request: asked.append(request.url))
    page, faults = window.new_page(), list[str]()
    for file in pages_of(site)[part::PARTS]:
        page.set_viewport_size(PHONE)
        page.goto(f"file://{file}")
        page.add_style_tag(content=WITHOUT_TRANSITIONS)
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            faults.append(f"{file.name}: scrolls sideways on a phone")
        page.set_viewport_size(DESKTOP)
        faults += [f"{file.name}: {fault}" for fault in found_by_axe(page, ALL_BUT_CONTRAST)]
        for colours in COLOURS:
            page.evaluate(IN_COLOURS.format(colours))
            code = {} if file.name in PAGES_FULL_OF_CODE else {"exclude": [["pre"], ["code"]]}
            faults += [f"{file.name}, {colours}: {fault}" for fault in found_by_axe(page, ONLY_CONTRAST, code)]

    assert faults == []
    assert [url for url in asked if not url.startswith("file://")] == []


def test_the_search_finds_a_page_without_a_server(site: Path, window: BrowserContext) -> None:
    page = window.new_page()
    page.set_viewport_size(DESKTOP)
    page.goto(f"file://{site}/index.html")
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("combobox", name="Search").fill("back-pressure")

    page.get_by_role("option", name="Back-pressure").wait_for()


@pytest.mark.parametrize(("system", "colours"), [("light", "default"), ("dark", "slate")])
def test_the_colours_follow_the_system_until_the_reader_chooses(
    site: Path, open_window: OpenWindow, system: Colours, colours: str
) -> None:
    page = open_window(DESKTOP["width"], system).new_page()
    page.goto(f"file://{site}/index.html")
    page.wait_for_function(f"document.body.dataset.mdColorScheme == '{colours}'")

    page.get_by_title("Follows the system").click()
    page.wait_for_function("document.body.dataset.mdColorScheme == 'default'")
    page.get_by_title("switch to dark").click()
    page.wait_for_function("document.body.dataset.mdColorScheme == 'slate'")


def test_every_page_is_there_as_markdown_and_can_be_edited(site: Path, window: BrowserContext) -> None:
    page = window.new_page()
    page.goto(f"file://{site}/guarantees.html")

    assert page.get_by_title("Edit this page").get_attribute("href") == (
        "https://code.example/flowq/edit/main/docs/guarantees.md"
    )
    assert page.get_by_title("This page as Markdown").get_attribute("href") == "guarantees.md"
    assert [file for file in pages_of(site) if not as_markdown(file).is_file()] == []
    assert (site / "guarantees.md").read_text().startswith("# What flowq promises")


def as_markdown(file: Path) -> Path:
    readme = file.with_name("README.md")
    return readme if file.name == "index.html" and readme.is_file() else file.with_suffix(".md")


def test_llms_txt_and_with_it_the_navigation_lists_each_page_once(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    listed = [line.rpartition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("- ")]

    assert text.startswith("# flowq\n\n> ")
    assert len(listed) > 20
    pages = sorted(page.relative_to(site).as_posix() for page in site.rglob("*.md"))
    assert sorted(listed) == [page for page in pages if not page.startswith("source/")]  # files that pages link to


def test_every_page_of_the_documentation_is_in_the_navigation_once(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    listed = [line.rpartition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("- ")]

    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted([*pages, "changelog.md", "contributing.md"])


def test_a_block_of_code_can_be_copied(site: Path, window: BrowserContext) -> None:
    page = window.new_page()
    page.goto(f"file://{site}/flow-control.html")

    page.locator("pre").first.hover()
    page.get_by_title("Copy to clipboard").first.wait_for()


def test_links_to_missing_pages_files_and_anchors_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html">1</a><a href="#top">2</a><a href="#bottom">3</a><img src="c.png">'
        '<a href="https://example.org/">4</a><a href="https://exa mple/">5</a>'
    )
    assert list(dead_links(tmp_path)) == [
        f"a.html: {link} leads nowhere" for link in ("b.html", "#bottom", "c.png", "https://exa mple/")
    ]


@pytest.mark.parametrize("name", sorted(pictures()))
def test_a_picture_is_what_its_files_make(name: str) -> None:
    assert (FOLDER / name).read_text() == pictures()[name], "make pictures"


def test_the_table_of_peers_is_what_its_file_makes() -> None:
    assert PAGE.read_text() == with_peers(PAGE.read_text(), peers_in(FIGURES[1])), "make pictures"
