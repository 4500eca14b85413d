"""The page of workers: what each worker runs, keys on hold, and deaths; and links to the logs of a letter."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browser import found_by_axe
from tests.dashboard.web_page import WebPage

SLOW = """
from __future__ import annotations
import asyncio
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, RetryLater, stage

class Link(BaseModel):
    n: int
    host: str = "a.test"

@stage(concurrency=3, rate=Rate(1000, by="host"))
async def fetch(link: Link) -> None:
    if link.n < 0: raise Reject("HTTP 404")
    if link.host == "held.test": raise RetryLater("HTTP 429", after=3000, hold="host")
    await asyncio.sleep(1000)

slow = Pipeline("slow", fetch)
"""


@pytest.fixture
def slow() -> Iterator[WebPage]:
    """Two links in their handlers for long, one host on hold, and a letter."""
    settings = '[tool.flowq.dashboard]\nlog_url = "https://logs.test/{pipeline}?q={id}&stage={stage}"\n'
    with WebPage({"slow": SLOW, "pyproject.toml": f"[tool.flowq]\n{settings}"}) as served:
        served.project.ok("push", "slow.fetch", '{"n": -1}', "--id", "a&b c/d")
        served.project.ok("push", "slow.fetch", '{"n": 1}')
        served.project.ok("push", "slow.fetch", '{"n": 2}')
        served.project.ok("push", "slow.fetch", '{"n": 3, "host": "held.test"}')
        yield served


def test_the_page_shows_what_each_worker_does_and_how_it_died(slow: WebPage, page: Page) -> None:
    page.goto(f"{slow.url}/p/slow/workers")
    expect(page.locator("h2").first).to_have_text("No worker is running")
    expect(page.locator(".empty .cli code")).to_have_text("flowq run slow")

    worker = slow.project.start("run", "slow")
    reloaded(page, 'section:has-text("Keys on hold"):has-text("held.test")', 1)
    expect(reloaded(page, ".slotrow .on", 2).locator(".slotrow .num")).to_have_text("2 of 3")
    expect(page.locator(".slotrow rect")).to_have_count(3)
    expect(page.locator(".sub").first).to_have_text("1 alive · 3 slots in all")
    expect(page.locator("section", has_text="Longest running").locator("li")).to_have_count(2)
    held = page.locator("section", has_text="Keys on hold")
    expect(held).to_contain_text("held.test")
    expect(held).to_contain_text("HTTP 429")
    expect(held.locator(".cli code")).to_have_text("flowq resume slow.fetch --key host=held.test")
    assert found_by_axe(page) == []

    children = subprocess.run(["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=True)
    for pid in (worker.pid, *map(int, children.stdout.split())):
        subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=False)
    worker.wait()
    slow.project.start("run", "slow")
    dead = '.crew > [data-state="dead"]'
    expect(reloaded(page, dead, 1).locator(dead)).to_contain_text("died")
    assert found_by_axe(page) == []


def reloaded(page: Page, until: str, n: int) -> Page:
    """Reload the page until it shows `n` of something: it is a picture of one moment."""
    for _ in range(120):
        page.reload()
        if page.locator(until).count() == n:
            break
        page.wait_for_timeout(500)
    return page


def test_a_letter_leads_to_its_logs(slow: WebPage, page: Page) -> None:
    slow.project.start("run", "slow").wait_for(lambda: "404" in slow.get("/p/slow/dead").text)
    page.goto(f"{slow.url}/p/slow/dead")
    page.locator(".kinds .error").click()
    expect(page.get_by_role("link", name="Logs")).to_have_attribute(
        "href", "https://logs.test/slow?q=a%26b%2520c%2Fd&stage=fetch"
    )
