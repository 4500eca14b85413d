"""An open page follows the pipeline by itself, says when it cannot, and shows the past on request."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import found_by_axe
from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import WebPage


@pytest.fixture(scope="module")
def served() -> Iterator[WebPage]:
    with WebPage({"lab": LAB}) as page:
        yield page


def push(served: WebPage, url: str) -> None:
    served.project.ok("push", "lab.fetch", f'{{"url": "{url}"}}')


def live(page: Page, served: WebPage, path: str = "/p/lab") -> None:
    page.goto(served.url + path)
    expect(page.locator("body")).to_have_attribute("data-conn", "live")


def test_numbers_change_without_a_reload(served: WebPage, page: Page) -> None:
    live(page, served)
    page.evaluate("window.sameDocument = true")
    waiting = page.locator('[data-live="s.fetch.waiting"]').first
    before = int(waiting.inner_text())
    push(served, "https://example.org/a")

    expect(waiting).to_have_text(str(before + 1))
    assert page.evaluate("window.sameDocument")


def test_the_list_of_all_pipelines_changes_without_a_reload(served: WebPage, page: Page) -> None:
    live(page, served, "/")
    left = page.locator('[data-live="i.lab.left"]')
    before = int(left.inner_text())
    push(served, "https://example.org/b")

    expect(left).to_have_text(str(before + 1))


def test_the_list_of_pipelines_is_filtered_while_the_user_types_and_without_scripts(
    served: WebPage, page: Page
) -> None:
    live(page, served, "/")
    page.keyboard.press("/")
    page.keyboard.type("nothing")
    expect(page.locator("[data-row=lab]")).to_be_hidden()
    page.keyboard.press("Enter")

    expect(page.get_by_text("No pipeline has “nothing” in its name")).to_be_visible()
    page.get_by_role("link", name="Show all 1").click()
    expect(page.locator("[data-row=lab]")).to_be_visible()


def test_the_attention_of_a_page_comes_and_goes(served: WebPage, page: Page) -> None:
    live(page, served)
    served.project.ok("pause", "lab.fetch")
    paused = page.locator('[data-rows="attention"] li', has_text="is paused")
    expect(paused).to_be_visible()
    assert found_by_axe(page) == []
    served.project.ok("resume", "lab.fetch")

    expect(paused).to_be_hidden()


def test_a_page_says_that_its_server_is_gone_and_continues_when_it_is_back(served: WebPage, page: Page) -> None:
    live(page, served)
    listen = urlsplit(served.url).netloc
    served.process.signal_group(signal.SIGKILL)
    served.process.wait()

    expect(page.locator("#trouble")).to_contain_text("No connection to flowq since")
    expect(page.locator("#conn")).to_have_text("Not connected")
    expect(page.locator('[data-live="p.left"]').first).not_to_be_empty()  # still readable
    assert found_by_axe(page) == []
    served.start(listen=listen)
    page.get_by_role("button", name="Try now").click()

    expect(page.locator("#conn")).to_have_text("Live")
    expect(page.locator("#bar")).to_be_hidden()


def test_a_page_reconnects_by_itself(served: WebPage, page: Page) -> None:
    live(page, served)
    listen = urlsplit(served.url).netloc
    served.process.signal_group(signal.SIGKILL)
    served.process.wait()
    expect(page.locator("#conn")).to_have_text("Not connected")
    served.start(listen=listen)

    expect(page.locator("#conn")).to_have_text("Live")
    expect(page.locator("#said")).to_have_text("Connected again")


def test_the_past_is_shown_until_the_user_goes_back_to_live(served: WebPage, page: Page) -> None:
    live(page, served)
    left = page.locator('[data-live="s.fetch.waiting"]').first
    expect(page.locator("#moment")).not_to_have_attribute("min", "0")
    page.locator("#moment").focus()
    with page.expect_response("**/at?*"):  # else it could be taken for the answer to the next key
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#conn")).to_have_text("Past")
    with page.expect_response("**/at?*") as answer:
        page.keyboard.press("[")
    expect(page.locator("#shown")).to_contain_text("ago")
    then = answer.value.json()["set"]["s.fetch.waiting"]
    expect(left).to_have_text(then)

    other = page.context.new_page()
    live(other, served)
    waiting = other.locator('[data-live="s.fetch.waiting"]').first
    now = str(int(waiting.inner_text()) + 1)
    push(served, "https://example.org/c")
    expect(waiting).to_have_text(now)
    expect(left).to_have_text(then)
    assert found_by_axe(page) == []

    page.keyboard.press("Escape")
    expect(page.locator("#conn")).to_have_text("Live")
    expect(left).to_have_text(now)


# A browser without a screen shows all its tabs; this one says what it is told.
HIDING = """
Object.defineProperty(document, 'hidden', { get: () => Boolean(window.isHidden) });
window.hide = hidden => { window.isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); };
"""


def test_a_hidden_tab_gives_its_connection_back_and_opens_it_when_it_is_seen(served: WebPage, page: Page) -> None:
    page.add_init_script(HIDING)
    live(page, served)
    waiting = page.locator('[data-live="s.fetch.waiting"]').first
    before = int(waiting.inner_text())
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        page.evaluate("hide(true)")
    with page.expect_request("**/events"):
        page.evaluate("hide(false)")

    push(served, "https://example.org/d")
    expect(page.locator("#conn")).to_have_text("Live")
    expect(waiting).to_have_text(str(before + 1))  # and the next test does not meet a number that is on its way


def test_a_page_says_that_redis_is_gone(page: Page) -> None:
    with WebPage({"lab": LAB}) as own:
        live(page, own)
        own.redis.kill()

        expect(page.locator("#conn")).to_have_text("No Redis")
        expect(page.locator("#trouble")).to_contain_text("FQ4")
        page.goto(own.url + "/")
        expect(page.locator("#trouble")).to_contain_text("FQ4")
        assert found_by_axe(page) == []


def test_a_page_opened_without_redis_is_complete_once_redis_is_there(page: Page) -> None:
    with WebPage({"lab": LAB}) as own:
        own.redis.kill()
        page.goto(own.url + "/p/lab")
        expect(page.locator("#conn")).to_have_text("No Redis")
        expect(page.locator("[aria-busy]")).to_be_attached()
        own.redis.start()

        expect(page.locator(".balance .headline")).to_have_text("It has never run")
