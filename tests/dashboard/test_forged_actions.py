"""Requests that do not come from a page of this server change nothing, whatever they look like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from flowq import Inspector
from flowq.dashboard.access.guard import LOOPBACK
from tests.dashboard.acting import ActingPage
from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import WebPage

BODY = json.dumps({"stage": "fetch", "expected": "1", "confirm": "lab 1"}).encode()
ACTIONS = ("pause", "resume", "pause-key", "release", "retry", "edit", "remove", "purge", "push")
FORGED: Mapping[str, Mapping[str, str | None]] = {
    "no content type": {"content-type": None},
    "a form": {"content-type": "application/x-www-form-urlencoded"},
    "text, which needs no preflight": {"content-type": "text/plain"},
    "JSON in the parameter of another type": {"content-type": "text/plain; application/json"},
    "no token": {"x-flowq-token": None},
    "an empty token": {"x-flowq-token": ""},
    "another token": {"x-flowq-token": "0" * 64},
    "a token that is no ASCII": {"x-flowq-token": "\xff"},
    "no origin": {"origin": None},
    "no origin that could be told": {"origin": "null"},
    "another site": {"origin": "https://example.org"},
    "another port": {"origin": "http://127.0.0.1:1"},
    "a file": {"origin": "file://127.0.0.1"},
    "a site whose name begins alike": {"origin": "http://127.0.0.1.example.org"},
    "no site": {"sec-fetch-site": None},
    "another origin of the site": {"sec-fetch-site": "same-site"},
    "from another site": {"sec-fetch-site": "cross-site"},
    "typed by the user": {"sec-fetch-site": "none"},
}


@pytest.fixture(scope="module")
def page() -> Iterator[ActingPage]:
    """A letter is dead in fetch and a message waits there."""
    with ActingPage({"lab": LAB}, "--allow-actions") as served:
        served.push("fetch", {"url": "/404"})
        served.run()
        served.push("fetch", {"url": "/waits"})
        yield served


def state_of(page: ActingPage) -> object:
    async def all_of(inspector: Inspector) -> object:
        letters = [(letter.id, letter.body) for letter in await inspector.dead_letters()]
        return await inspector.balance(), letters, await inspector.paused()

    return page.inspect(all_of)


@pytest.mark.parametrize("how", FORGED)
@pytest.mark.parametrize("action", ["purge", "retry"])
def test_each_forged_header_alone_is_refused_and_the_balance_is_unchanged(
    page: ActingPage, action: str, how: str
) -> None:
    before = state_of(page)
    changed = {**page.headers(), **FORGED[how]}
    headers = {name: value for name, value in changed.items() if value is not None}

    answer = page.sent(action, BODY, headers)

    assert answer.status == 403
    assert answer.json["error"].startswith("refused: ")
    assert state_of(page) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_no_action_is_done_without_the_token(page: ActingPage, action: str) -> None:
    before = state_of(page)
    headers = {name: value for name, value in page.headers().items() if name != "x-flowq-token"}

    assert page.sent(action, BODY, headers).status == 403
    assert state_of(page) == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_does_nothing_and_gives_nothing_away(page: ActingPage, method: str) -> None:
    before = state_of(page)
    answer = page.sent("purge", BODY, page.headers(), method)

    assert answer.status == 405
    assert not [
        name for name in answer.headers if name.lower().startswith("access-control-") or name.lower() == "allow"
    ]
    assert state_of(page) == before


def test_a_preflight_of_another_site_is_not_answered(page: ActingPage) -> None:
    asks = {
        "origin": "https://example.org",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-flowq-token",
    }
    answer = page.sent("purge", b"", asks, "OPTIONS")

    assert answer.status == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_that_is_too_large_is_not_read(page: ActingPage) -> None:
    before = state_of(page)
    large = json.dumps({"stage": "fetch", "message": "x" * 1_000_000}).encode()

    assert page.sent("push", large, page.headers()).status == 413
    assert state_of(page) == before


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 10_000, b'{"stage": {"$gt": ""}}'])
def test_a_body_that_is_not_an_action_is_refused(page: ActingPage, body: bytes) -> None:
    before = state_of(page)

    assert page.sent("purge", body, page.headers()).status == 422
    assert state_of(page) == before


def test_the_token_of_another_server_is_not_that_of_this_one(page: ActingPage) -> None:
    with ActingPage({"lab": LAB}, "--allow-actions") as other:
        old = other.headers()["x-flowq-token"]

    assert page.sent("purge", BODY, {**page.headers(), "x-flowq-token": old}).status == 403


def test_a_refused_action_is_recorded_and_a_flood_of_them_pushes_nothing_out() -> None:
    with ActingPage({"lab": LAB}, "--allow-actions") as own:  # what other tests send counts too
        own.do("pause", stage="parse")
        own.do("resume", stage="parse")
        for _ in range(40):
            own.sent("purge", BODY, {})

        records = own.inspect(lambda inspector: inspector.audit(100))

    *refused, resumed, paused = records
    assert {(record.action, record.actor, record.n) for record in refused} == {("purge", "local@127.0.0.1 (web)", 0)}
    assert all(record.result.startswith("refused: ") for record in refused)
    assert len(refused) == 20
    assert [(record.action, record.selection) for record in (resumed, paused)] == [
        ("resume", "parse"),
        ("pause", "parse"),
    ]


def test_actions_that_do_not_exist_are_not_found(page: ActingPage) -> None:
    for path in ("/p/lab/do/nothing", "/p/other/do/pause", "/p/lab/do", "/p/lab/do/pause/x", "/P/lab/do/pause"):
        assert page.request("POST", path, BODY, page.headers()).status == 404, path


@pytest.mark.parametrize("path", ["/", "/p/lab", "/p/lab/s/fetch", "/p/lab/dead", "/p/lab/workers"])
def test_a_read_only_page_offers_no_action(dashboard: WebPage, path: str) -> None:
    text = dashboard.get(path).text

    assert "data-send" not in text
    assert "/do/" not in text


@pytest.mark.parametrize("action", ACTIONS)
def test_without_allow_actions_the_routes_do_not_exist(dashboard: WebPage, action: str) -> None:
    headers = {"content-type": "application/json", "origin": dashboard.url, "sec-fetch-site": "same-origin"}

    assert dashboard.request("POST", f"/p/lab/do/{action}", BODY, headers).status == 404
    assert 'name="flowq-token"' not in dashboard.get("/p/lab").text


def test_another_name_of_this_machine_may_act_from_its_own_pages_alone(page: ActingPage) -> None:
    port = page.address.rpartition(":")[2]
    for host in LOOPBACK:
        here = {**page.headers(), "host": f"{host}:{port}", "origin": f"http://{host}:{port}"}
        assert page.sent("resume", b'{"dry_run": true}', here).status == 200
        assert page.sent("resume", b'{"dry_run": true}', {**here, "origin": page.url + "0"}).status == 403
