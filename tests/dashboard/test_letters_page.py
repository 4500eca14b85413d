"""Dead letters in a browser: found, filtered and read, with and without scripts."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import OpenWindow, found_by_axe
from tests.dashboard.web_page import WebPage

SECRET = "hunter2"
SHOP = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, Reject, Retry, stage

class Order(BaseModel):
    n: int
    dest: str = "SJU"
    password: str = ""
    lines: list[int] = []

@stage
async def read(order: Order) -> Order:
    return order

@stage(retry=Retry(attempts=3, base=0.01))
async def ship(order: Order) -> Order:
    if order.n % 3 == 0: raise Reject("HTTP 404")
    if order.n % 3 == 1: raise ValueError(f"no title, order {order.n}")
    return order

@stage
async def bill(order: Order) -> None:
    raise Reject("HTTP 404")

shop = Pipeline("shop", read >> ship >> bill)
"""
N = 30


@pytest.fixture(scope="module")
def shop() -> Iterator[WebPage]:
    """Thirty orders, all of them dead: of three kinds, ten each."""
    with WebPage({"shop": SHOP}) as served:
        orders = [{"n": n, "dest": "SJU" if n % 2 else "BQN", "password": SECRET, "lines": [n] * 3} for n in range(N)]
        served.project.write("orders.ndjson", "\n".join(map(json.dumps, orders)))
        served.project.ok("push", "shop.read", "@orders.ndjson")
        served.project.run("run", "shop", "--drain")
        served.process.wait_for(lambda: f"{N} letters of 3 kinds" in served.get("/p/shop/dead").text)  # all are read
        yield served


Letters = list[dict[str, Any]]


@pytest.fixture(scope="module")
def letters(shop: WebPage) -> Letters:
    """All letters, as the command line has them."""
    return [json.loads(line) for line in shop.project.ok("dlq", "export", "shop").stdout.splitlines()]


def kinds(page: Page) -> list[tuple[str, str]]:
    """The kinds that a page lists, with their counts."""
    return [
        (row.locator(".error").inner_text(), row.locator(".n").inner_text()) for row in page.locator(".kinds li").all()
    ]


def test_every_count_leads_to_what_it_counts(shop: WebPage, letters: Letters, page: Page) -> None:
    counted = Counter((letter["stage"], letter["fingerprint"]) for letter in letters)
    page.goto(f"{shop.url}/p/shop/dead")
    assert sorted(counted.values()) == [10, 10, 10]
    expect(page.locator(".sub").first).to_contain_text("30 letters of 3 kinds")
    for n in range(len(counted)):
        page.goto(f"{shop.url}/p/shop/dead")
        row = page.locator(".kinds li").nth(n)
        stage, kind = row.locator(".what span").first.inner_text(), row.locator("code").inner_text()
        assert row.locator(".n").inner_text() == str(counted[stage, kind])
        row.locator(".error").click()
        expect(page.locator(".letter .kicker")).to_contain_text(f"1 of {counted[stage, kind]} of this kind")
        expect(page.locator(".kinds li[aria-current]")).to_have_count(1)


def test_a_letter_is_read_whole(shop: WebPage, letters: Letters, page: Page) -> None:
    letter = next(each for each in letters if "no title" in each["error"])
    page.goto(f"{shop.url}/p/shop/dead?error=*no title*")
    page.locator(".kinds .error").click()
    shown = page.locator("article.letter")
    expect(shown.locator("h2")).to_have_text(letter["error"])
    expect(shown.locator("header")).to_contain_text("pipelines/shop.py:18 in ship")
    expect(shown.locator(".tree")).to_contain_text(f'dest: "{letter["message"]["dest"]}"')
    expect(shown.locator(".attempts")).to_contain_text("attempt 3: ValueError: no title")
    expect(shown.locator("pre .own", has_text='raise ValueError(f"no title, order {order.n}")')).to_have_count(1)
    expect(shown.locator("pre .err")).to_have_text(letter["error"] + "\n")
    for fact in ("message_id", "id", "edge", "worker", "run", "fingerprint"):
        expect(shown.locator(".facts")).to_contain_text(letter[fact])


def test_before_and_after_walk_through_a_kind(shop: WebPage, letters: Letters, page: Page) -> None:
    ids = [each["id"] for each in letters if "no title" in each["error"]]
    page.goto(f"{shop.url}/p/shop/dead?error=*no title*")
    page.locator(".kinds .error").click()
    for n, letter_id in enumerate(ids[:3], 1):
        expect(page.locator(".letter .kicker")).to_contain_text(f"{n} of 10 of this kind")
        expect(page.locator(".letter .facts")).to_contain_text(letter_id)
        page.get_by_label("Next letter").click()
    page.get_by_label("Previous letter").click()
    expect(page.locator(".letter .facts")).to_contain_text(ids[2])
    page.goto(page.url.replace(ids[2], ids[-1]))
    expect(page.locator(".letter .kicker")).to_contain_text("10 of 10 of this kind")
    expect(page.get_by_label("Next letter")).to_have_count(0)


def test_filters_work_without_scripts_and_can_be_shared(shop: WebPage, open_window: OpenWindow) -> None:
    page = open_window(java_script_enabled=False).new_page()
    page.goto(f"{shop.url}/p/shop/dead")
    page.get_by_label("stage").select_option("ship")
    page.get_by_label("error").fill("*404*")
    page.get_by_label("since").select_option("1d")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/p/shop/dead?stage=ship&*")
    assert kinds(page) == [("Reject: HTTP 404", "10")]

    other = open_window().new_page()
    other.goto(page.url)
    assert kinds(other) == [("Reject: HTTP 404", "10")]
    assert other.get_by_label("stage").input_value() == "ship"
    assert other.get_by_label("error").input_value() == "*404*"
    other.locator(".kinds .error").click()
    expect(other.locator(".letter .kicker")).to_contain_text("1 of 10")
    assert other.get_by_label("stage").input_value() == "ship", "reading a letter keeps the filters"


def test_messages_are_searched_and_the_page_says_how_far(shop: WebPage, letters: Letters, page: Page) -> None:
    found = [each for each in letters if each["message"]["dest"] == "BQN" and "no title" in each["error"]]
    page.goto(f"{shop.url}/p/shop/dead?where=dest~B*&error=*no title*")
    assert [count for _, count in kinds(page)] == [str(len(found))]
    expect(page.get_by_role("status").filter(has_text="searched 30 of 30 letters")).to_have_count(1)
    page.locator(".kinds .error").click()
    for n, letter in enumerate(found, 1):
        expect(page.locator(".letter .kicker")).to_contain_text(f"{n} of {len(found)} of this kind")
        expect(page.locator(".letter .facts")).to_contain_text(letter["id"])
        if n < len(found):
            page.get_by_label("Next letter").click()
    expect(page.get_by_label("Next letter")).to_have_count(0)


def test_the_command_of_a_page_selects_what_the_page_shows(shop: WebPage, page: Page) -> None:
    page.goto(f"{shop.url}/p/shop/dead?stage=ship&error=*order 1*")
    page.locator(".export summary").click()
    command = shlex.split(page.locator(".export code").inner_text())
    assert command[:3] == ["flowq", "dlq", "export"]
    exported = shop.project.ok(*command[1:]).stdout.splitlines()
    assert [("ship", str(len(exported)))] == [
        (row.locator(".what span").first.inner_text(), row.locator(".n").inner_text())
        for row in page.locator(".kinds li").all()
    ]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?since=soon", "'soon' is not a duration"),
        ("?where=dest", "is not a condition"),
        ("?where=password~h*", 'the field "password" is not shown here'),
        ("?stage=pack", "pack"),
    ],
)
def test_an_invalid_filter_says_why(shop: WebPage, query: str, says: str) -> None:
    answer = shop.get(f"/p/shop/dead{query}")
    assert answer.status == 400
    assert says in answer.text.replace("&#39;", "'").replace("&#34;", '"')
    assert "Traceback" not in answer.text


def test_a_filter_without_a_wildcard_offers_one(shop: WebPage, page: Page) -> None:
    page.goto(f"{shop.url}/p/shop/dead?error=404")
    page.get_by_role("link", name="*404*").click()
    page.wait_for_url("**/p/shop/dead?error=*404*")
    assert kinds(page) == [("Reject: HTTP 404", "10")] * 2


def test_secrets_are_masked_and_the_rest_is_downloaded_as_a_text(shop: WebPage, letters: Letters, page: Page) -> None:
    page.goto(f"{shop.url}/p/shop/dead")
    page.locator(".kinds .error").first.click()
    expect(page.locator(".tree .hidden")).to_have_text("•••••• masked")
    path = page.url.removeprefix(shop.url)
    letter = letters[0]
    answer = shop.get(f"/p/shop/dead/{letter['fingerprint']}/{letter['id']}/message?in={letter['stage']}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert json.loads(answer.text) == {**letter["message"], "password": "•••••• masked"}
    assert SECRET not in page.content() + answer.text + shop.get(path).text


def test_a_read_only_page_shows_commands_in_place_of_actions(shop: WebPage, letters: Letters, page: Page) -> None:
    page.goto(f"{shop.url}/p/shop/dead?error=*no title*")
    page.locator(".kinds .error").click()
    words = shlex.split(page.locator(".letter .cli code").inner_text())
    assert words[:4] == ["flowq", "dlq", "retry", "shop"]
    assert words[4] in [each["id"] for each in letters]
    expect(page.locator("[data-open], form[method=post]")).to_have_count(0)


def test_a_page_says_that_its_letter_is_gone(shop: WebPage, letters: Letters, page: Page) -> None:
    kind = letters[0]["fingerprint"]
    for path in (f"/p/shop/dead/{kind}/1-0", "/p/shop/dead/00000000", f"/p/shop/dead/{kind}/what"):
        assert shop.get(path).status == 404
    page.goto(f"{shop.url}/p/shop/dead/{kind}/1-0")
    expect(page.locator(".letter.none")).to_contain_text("This letter is gone")
    expect(page.locator(".kinds li")).to_have_count(3)


def test_on_a_phone_the_letter_is_alone(shop: WebPage, open_window: OpenWindow) -> None:
    page = open_window(390).new_page()
    page.goto(f"{shop.url}/p/shop/dead")
    page.locator(".kinds .error").first.click()
    expect(page.locator(".letter h2")).to_be_visible()
    expect(page.locator(".kinds")).to_be_hidden()
    page.get_by_role("link", name="All kinds").click()
    expect(page.locator(".kinds")).to_be_visible()


def test_a_trace_leads_to_its_letter_and_back(shop: WebPage, letters: Letters, page: Page) -> None:
    letter = next(each for each in letters if each["stage"] == "bill")
    page.goto(f"{shop.url}/p/shop/dead/{letter['fingerprint']}/{letter['id']}?in=bill")
    page.locator(".line-age a").last.click()
    row = page.locator(f'tr[data-row="{letter["message_id"]}"]')
    expect(row).to_have_attribute("aria-current", "true")
    expect(row).to_contain_text("dead: Reject: HTTP 404")
    expect(page.locator("tbody tr").first).to_contain_text(letter["root_id"])
    row.get_by_role("link", name="dead: Reject: HTTP 404").click()
    expect(page.locator(".letter .facts")).to_contain_text(letter["id"])


def test_a_message_is_found_by_its_id_without_scripts(shop: WebPage, letters: Letters, open_window: OpenWindow) -> None:
    page = open_window(java_script_enabled=False).new_page()
    message_id = letters[0]["message_id"]
    page.goto(f"{shop.url}/p/shop/trace")
    page.get_by_label("Find a message").fill(message_id)
    page.keyboard.press("Enter")
    expect(page.locator("tr[aria-current]")).to_contain_text(message_id)
    page.get_by_label("Find a message").fill("nothing/of the kind?")
    page.keyboard.press("Enter")
    expect(page.locator("h2").first).to_have_text("Not found")


@pytest.mark.parametrize(("width", "colours"), [(390, "dark"), (1280, "light")])
def test_axe_finds_nothing(shop: WebPage, letters: Letters, open_window: OpenWindow, width: int, colours: str) -> None:
    page = open_window(width, colours).new_page()
    letter = letters[0]
    for path in (
        *("dead", "dead?error=404", "dead?since=soon", "trace", "workers"),
        f"dead/{letter['fingerprint']}/{letter['id']}?in={letter['stage']}",
        f"trace/{letter['message_id']}",
    ):
        page.goto(f"{shop.url}/p/shop/{path}")
        assert found_by_axe(page) == [], path
