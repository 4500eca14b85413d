"""The stream of changes over HTTP: live, resumed, compressed, limited, ended; and what was at a moment."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from itertools import islice

from tests.dashboard.event_stream import SeenEvent, events_in
from tests.dashboard.web_page import WebPage
from tests.integration.flowq_process import wait_until

EVENTS = "/p/lab/events"


def until(events: Iterator[SeenEvent], slot: str, text: str) -> list[SeenEvent]:
    """The events up to the one that sets a slot."""
    seen = list[SeenEvent]()
    for event in events:
        seen.append(event)
        if event.data.get("set", {}).get(slot) == text:
            return seen
    raise AssertionError(f"the stream ended: {seen}")


def test_a_page_gets_everything_and_then_what_changes(dashboard: WebPage) -> None:
    with dashboard.open("GET", EVENTS) as response:
        events = events_in(response)
        first = next(events)
        dashboard.project.ok("push", "lab", '{"url": "https://example.org/1"}')
        seen = until(events, "s.fetch.waiting", "1")

    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (first.kind, first.data["set"]["s.fetch.waiting"]) == ("full", "0")
    assert {event.kind for event in seen} == {"patch"}
    assert seen[-1].data["set"].keys() < first.data["set"].keys()
    assert seen[-1].data["at"] > first.data["at"]


def test_a_page_that_comes_back_gets_what_it_has_missed(dashboard: WebPage) -> None:
    with dashboard.open("GET", EVENTS) as response:
        first = next(events_in(response))

    with dashboard.open("GET", EVENTS, headers={"last-event-id": first.id}) as response:
        again = next(events_in(response))
    with dashboard.open("GET", EVENTS, headers={"last-event-id": "elsewhere-1"}) as response:
        elsewhere = next(events_in(response))

    assert (again.kind, elsewhere.kind) == ("patch", "full")
    assert again.data["set"].keys() < first.data["set"].keys()


def test_a_browser_gets_the_stream_compressed(dashboard: WebPage) -> None:
    with dashboard.open("GET", EVENTS, headers={"accept-encoding": "gzip, br"}) as response:
        events = events_in(unpacked(response))
        kinds = [event.kind for event in islice(events, 3)]

    assert response.headers["content-encoding"] == "gzip"
    assert kinds == ["full", "patch", "patch"]


def unpacked(response: HTTPResponse) -> Iterator[bytes]:
    """The lines of a compressed stream, as they come."""
    unpacker, rest = zlib.decompressobj(wbits=31), b""
    while piece := response.read1():
        *lines, rest = (rest + unpacker.decompress(piece)).split(b"\n")
        yield from (line + b"\n" for line in lines)


def test_all_pages_of_a_pipeline_get_the_same_bytes(dashboard: WebPage) -> None:
    with ExitStack() as stack:
        streams = [events_in(stack.enter_context(dashboard.open("GET", EVENTS))) for _ in range(5)]
        newest = max(next(events).number for events in streams)
        after = [list(islice((event for event in events if event.number > newest), 3)) for events in streams]

    by_id = [{event.id: event for event in events} for events in after]
    shared = set.intersection(*map(set, by_id))
    assert shared
    assert all(events[each] == by_id[0][each] for events in by_id for each in shared)


def test_the_hundredth_page_is_live_and_the_next_one_is_told_to_wait(dashboard: WebPage) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            assert stack.enter_context(dashboard.open("GET", EVENTS)).status == 200

        refused = dashboard.get(EVENTS)

    assert (refused.status, refused.headers["retry-after"]) == (503, "30")
    wait_until(lambda: _status_of_a_stream(dashboard) == 200)


def _status_of_a_stream(dashboard: WebPage) -> int:
    with dashboard.open("GET", EVENTS) as response:
        return response.status


def test_a_moment_of_the_past_is_as_it_was(dashboard: WebPage) -> None:
    with dashboard.open("GET", EVENTS) as response:
        first = next(events_in(response))

    at_once = dashboard.get(f"/p/lab/at?t={first.data['at'] - 3_600_000}").json
    later = dashboard.get(f"/p/lab/at?t={first.data['at'] + 3_600_000}").json

    assert at_once["at"] == at_once["since"] <= first.data["at"]
    assert later["at"] >= at_once["at"]
    assert later["set"].keys() == {slot for slot in first.data["set"] if not slot.startswith("p.hour.")}
    for wrong in ("", "?t=", "?t=-1", "?t=1e9", "?t=%C2%B2", f"?t={'9' * 99}"):
        assert dashboard.get(f"/p/lab/at{wrong}").status == 400


def test_a_head_request_opens_no_stream(dashboard: WebPage) -> None:
    assert dashboard.request("HEAD", EVENTS).text == ""


def test_a_server_that_stops_says_so_to_every_page(dashboard: WebPage) -> None:
    with dashboard.open("GET", EVENTS) as response:
        events = events_in(response)
        next(events)
        dashboard.process.popen.terminate()
        last = list(events)[-1]

    assert last.kind == "bye"
    assert dashboard.process.wait() == 0
    assert dashboard.process.stderr.count("\n") == 1  # where it served, and nothing else
    dashboard.start()
