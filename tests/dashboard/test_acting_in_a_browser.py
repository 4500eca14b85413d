"""What a user does on the page in a real browser, with the mouse or by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from flowq import Inspector
from tests.dashboard.acting import ActingPage
from tests.dashboard.browser import OpenWindow, found_by_axe
from tests.dashboard.pipelines import LAB

DEAD, WAITS = "https://example.org/1/404", "https://example.org/w"
FOCUSED = "(({ariaLabel, textContent}) => (ariaLabel ?? textContent).trim())(document.activeElement)"
Tab = Callable[[str], None]


@pytest.fixture(scope="module")
def server() -> Iterator[ActingPage]:
    with ActingPage({"lab": LAB}, "--allow-actions") as served:
        yield served


@pytest.fixture
def lab(server: ActingPage) -> ActingPage:
    """Two letters are dead in fetch, and the server knows them."""
    server.clear()
    server.push("fetch", {"url": DEAD}, {"url": f"{DEAD}?/404"})
    server.run()
    letter = server.letters()[0]
    path = f"/p/lab/dead/{letter.fingerprint}/{letter.id}"
    server.process.wait_for(lambda: "1 of 2 of this kind" in server.get(path).text)
    return server


@pytest.fixture
def tab_to(page: Page) -> Tab:
    """Moves the focus with Tab to the element of this name; nothing is clicked."""

    def moved(name: str) -> None:
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate(FOCUSED) == name:
                return
        raise AssertionError(f"the tabulator does not lead to {name}")

    return moved


def open_letter(page: Page, lab: ActingPage) -> str:
    letter = next(letter for letter in lab.letters() if letter.message["url"] == DEAD)
    page.goto(f"{lab.url}/p/lab/dead/{letter.fingerprint}/{letter.id}")
    return letter.id


def test_a_dead_letter_is_edited_retried_and_ends_stored(page: Page, lab: ActingPage) -> None:
    letter_id = open_letter(page, lab)
    stored = lab.stages()["store"].ok

    page.get_by_role("button", name="Edit and retry").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".fits")).to_have_text("✓ fits Link")
    expect(dialog.locator(".diff")).to_have_text("nothing yet")
    text = dialog.get_by_label("Message").input_value()
    dialog.get_by_label("Message").fill(text.replace('"depth": 0', '"depth": "deep"'))
    expect(dialog.locator(".fits")).to_contain_text("depth: ")
    expect(dialog.get_by_role("button", name="Retry edited message")).to_be_disabled()
    dialog.get_by_label("Message").fill(text.replace(DEAD, "https://example.org/there"))
    expect(dialog.locator(".diff ins")).to_have_text('"https://example.org/there"')
    expect(dialog.locator(".cli code")).to_contain_text("--set 'url=\"https://example.org/there\"'")
    dialog.get_by_role("button", name="Retry edited message").click()

    page.wait_for_url("**/p/lab/dead")
    expect(page.locator("#said")).to_have_text("1 message put back to fetch, changed")
    expect(page.get_by_role("region", name="Recent actions")).to_contain_text("edit")
    lab.run()
    assert lab.stages()["store"].ok == stored + 1
    assert letter_id not in [letter.id for letter in lab.letters()]


def test_a_paused_stage_stops_and_resumes(page: Page, lab: ActingPage) -> None:
    page.goto(f"{lab.url}/p/lab/s/store")
    page.get_by_role("button", name="Pause store").click()
    expect(page.get_by_role("dialog").locator(".cli code")).to_have_text("flowq pause lab.store")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    resume = page.get_by_role("button", name="Resume store")
    expect(resume).to_be_visible()
    expect(page.locator("#drawer .verdict")).to_contain_text("paused")
    stored = lab.stages()["store"].ok
    lab.push("store", {"url": WAITS})
    running = lab.project.start("run", "lab")
    running.wait_for(lambda: "store is paused" in running.stderr)
    assert lab.stages()["store"].waiting == 1
    resume.click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause store")).to_be_visible()
    running.wait()
    assert lab.stages()["store"].ok == stored + 1


def test_a_held_key_is_released(page: Page, lab: ActingPage) -> None:
    lab.push("fetch", {"url": WAITS})
    lab.do("pause-key", stage="fetch", key="example.org")
    page.goto(f"{lab.url}/p/lab/workers")

    page.get_by_role("button", name="Release example.org").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".cli code")).to_have_text("flowq resume lab.fetch --key host=example.org")
    dialog.get_by_role("button", name="Release").click()

    expect(page.get_by_text("No key is on hold.")).to_be_visible()
    assert lab.inspect(Inspector.held_keys) == []


def test_the_keyboard_alone_edits_and_retries_a_letter(page: Page, lab: ActingPage, tab_to: Tab) -> None:
    page.goto(f"{lab.url}/p/lab")
    page.keyboard.press("d")
    page.wait_for_url("**/p/lab/dead")
    tab_to("Reject: HTTP 404")
    page.keyboard.press("Enter")
    page.wait_for_url("**/p/lab/dead/*")
    tab_to("Edit and retry")
    page.keyboard.press("Enter")
    message = page.get_by_role("dialog").get_by_label("Message")
    expect(message).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit and retry")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type('{"url": "https://example.org/typed"}')
    expect(page.locator("#edit .diff ins").first).to_have_text('"https://example.org/typed"')
    tab_to("Retry edited message")
    page.keyboard.press("Enter")

    page.wait_for_url("**/p/lab/dead")
    assert len(lab.letters()) == 1


def test_the_keyboard_alone_removes_letters_once_name_and_number_are_typed(
    page: Page, lab: ActingPage, tab_to: Tab
) -> None:
    page.goto(f"{lab.url}/p/lab/dead")
    tab_to("Remove all")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[data-unlocking]")).to_have_text("lab 2")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    page.keyboard.type("lab")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Remove 2")).to_be_disabled()
    page.keyboard.type(" 2")
    page.keyboard.press("Enter")

    expect(page.locator("#said")).to_have_text("2 dead letters removed")
    assert lab.letters() == []


def test_the_second_of_two_users_sees_the_new_number_and_can_continue(page: Page, lab: ActingPage) -> None:
    page.goto(f"{lab.url}/p/lab/dead")
    page.get_by_role("button", name="Retry all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Retry 2")).to_be_visible()
    lab.project.ok("dlq", "rm", "lab", "-n", "1", "--yes")
    dialog.get_by_role("button", name="Retry 2").click()

    expect(dialog.locator(".fits")).to_contain_text("1 letter now, not 2: nothing was changed")
    dialog.get_by_role("button", name="Retry 1").click()
    expect(page.locator("#said")).to_have_text("1 message put back to fetch")


def test_many_letters_are_put_back_gently_unless_the_user_says_otherwise(page: Page, lab: ActingPage) -> None:
    lab.push("fetch", *[{"url": f"{n}/404"} for n in range(200)])
    lab.run()
    page.goto(f"{lab.url}/p/lab/dead")
    page.get_by_role("button", name="Retry all").click()
    dialog = page.get_by_role("dialog")

    expect(dialog.get_by_label("at most per second")).to_have_value("20")
    expect(dialog.locator(".cli code")).to_have_text("flowq dlq retry lab --rate 20")
    dialog.get_by_label("at most per second").fill("0")
    expect(dialog.locator(".cli code")).to_have_text("flowq dlq retry lab")
    expect(dialog.get_by_label("at most per second")).to_have_value("0")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_dialogs_are_accessible(open_window: OpenWindow, lab: ActingPage, width: int, colours: str) -> None:
    page = open_window(width, colours).new_page()
    open_letter(page, lab)
    faults: dict[str, list[str]] = {}
    for opener in ("edit", "retry", "retry-kind", "remove"):
        page.locator(f'[data-open="{opener}"]').click()
        expect(page.locator(f"#{opener} .cli code")).not_to_be_empty()
        faults[opener] = found_by_axe(page)
        page.keyboard.press("Escape")
    page.goto(f"{lab.url}/p/lab/s/fetch")
    for opener in ("pause", "push", "purge", "pause-all"):
        page.evaluate("id => document.querySelector(`[data-open='${id}']`).click()", opener)
        expect(page.locator(f"#{opener}")).to_be_visible()
        faults[opener] = found_by_axe(page)
        page.keyboard.press("Escape")

    assert {opener: found for opener, found in faults.items() if found} == {}
