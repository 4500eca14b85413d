"""One watch for all pages: what it costs Redis, when it looks, and what pages show while Redis is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import pytest
import redis

from tests.dashboard.event_stream import events_in
from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import WebPage
from tests.integration.flowq_process import wait_until

EVENTS = "/p/lab/events"


@pytest.fixture(scope="module")
def unwatched() -> Iterator[WebPage]:
    """A web page that keeps no history."""
    with WebPage({"lab": LAB}, FLOWQ_DASHBOARD_HISTORY="0") as page:
        yield page


def looks(page: WebPage) -> int:
    """How often Redis was asked for the snapshot of a look, which is a script."""
    with redis.Redis.from_url(page.redis.url) as client:
        found = client.info("commandstats")
    assert isinstance(found, dict)
    return sum(found[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_evalsha_ro") if name in found)


def looks_while_open(page: WebPage, n_pages: int, n_events: int) -> tuple[int, int]:
    """The looks during some events of the first of so many pages, and the events."""
    with ExitStack() as stack:
        streams = [events_in(stack.enter_context(page.open("GET", EVENTS))) for _ in range(n_pages)]
        newest = max(next(events).number for events in streams)
        first = next(event for event in streams[0] if event.number > newest)
        before = looks(page)
        *_, last = islice(streams[0], n_events)
        return looks(page) - before, last.number - first.number


def test_twenty_pages_cost_redis_what_one_does(unwatched: WebPage) -> None:
    looks_of_one, events_of_one = looks_while_open(unwatched, 1, 4)
    looks_of_twenty, events_of_twenty = looks_while_open(unwatched, 20, 4)

    per_event = looks_of_one / events_of_one
    assert looks_of_twenty / events_of_twenty == pytest.approx(per_event, rel=0.5)


def test_without_a_history_redis_is_left_alone_when_no_page_is_open(unwatched: WebPage) -> None:
    looks_while_open(unwatched, 1, 1)

    def is_left_alone() -> bool:
        before = looks(unwatched)
        time.sleep(3)  # three looks long, whatever the load
        return looks(unwatched) == before

    wait_until(is_left_alone)
    assert unwatched.get("/p/lab").status == 200  # and a page wakes it
    assert unwatched.get("/p/lab/at?t=0").status == 204


def test_while_redis_is_away_pages_keep_their_numbers_and_say_so() -> None:
    with WebPage({"lab": LAB}) as page, page.open("GET", EVENTS) as response:
        page.project.ok("push", "lab", '{"url": "https://example.org/1"}')
        events = events_in(response)
        before = next(event for event in events if event.data["set"].get("s.fetch.waiting") == "1")

        page.redis.kill()
        lost = next(event for event in events if "trouble" in event.data)
        shown, numbers, letters = page.get("/p/lab"), page.get("/p/lab.json"), page.get("/p/lab/dead")
        with page.open("GET", EVENTS) as late:
            first = next(events_in(late))
        page.redis.start()
        again = next(event for event in events if "trouble" not in event.data)

        assert lost.data["trouble"].startswith("FQ401 cannot reach Redis")
        assert (lost.data["set"], lost.data["at"]) == ({}, first.data["at"])
        assert lost.data["at"] >= before.data["at"]
        assert shown.status == 200
        assert 'data-conn="error"' in shown.text
        assert "FQ401 cannot reach Redis" in shown.text
        assert (first.data["set"]["s.fetch.waiting"], first.data["trouble"]) == ("1", lost.data["trouble"])
        assert numbers.status == 503
        assert letters.status in (200, 503)
        assert again.data["set"]["s.fetch.waiting"] == "0"  # the server came back empty


def test_a_server_that_starts_before_redis_waits_for_it() -> None:
    with WebPage({"lab": LAB}) as page:
        page.redis.stop()

        page.restart()
        assert page.get("/p/lab").status == 200
        assert "FQ401" in page.get("/").text
        page.redis.start()

        wait_until(lambda: page.get("/p/lab.json").status == 200)
