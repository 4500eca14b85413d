"""What only shows inside the process: an internal error, and a client that reads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq import Pipeline, dashboard_app, stage
from flowq.dashboard.access.visitors import Visitors
from flowq.dashboard.pages import data_routes

NO_REDIS = "redis://:s3cr3t@127.0.0.1:1/0"


@pytest.fixture
def app() -> Starlette:
    """A web page without Redis, for ann."""

    @stage
    def greet(name: str) -> None: ...

    return dashboard_app(Pipeline("lab", greet), auth=lambda _: "ann", redis=NO_REDIS)


def scope_of(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def answered(app: Starlette, path: str) -> tuple[MutableMapping[str, Any], str]:
    """The start of an answer, and its text."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    with suppress(ZeroDivisionError):  # for the log of the server
        await app(scope_of(path), never, send)
    return sent[0], b"".join(message.get("body", b"") for message in sent[1:]).decode()


async def test_an_internal_error_is_a_page_with_the_headers_and_without_the_traceback(app: Starlette) -> None:
    def fail(_: Request) -> Response:
        raise ZeroDivisionError("s3cr3t")

    app.router.routes.insert(0, Route("/fails", fail))

    start, text = await answered(app, "/fails")

    assert start["status"] == 500
    assert b"content-security-policy" in dict(start["headers"])
    assert "s3cr3t" not in text
    assert "Traceback" not in text
    assert "ZeroDivisionError" not in text
    await app.state.site.close()


async def test_a_client_that_reads_nothing_is_dropped(app: Starlette) -> None:
    site = app.state.site
    n_bodies = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal n_bodies
        if message["type"] == "http.response.body":
            n_bodies += 1
            await asyncio.Event().wait()

    begun = asyncio.get_running_loop().time()
    await app(scope_of("/p/lab/events"), never, send)
    took = asyncio.get_running_loop().time() - begun

    assert n_bodies == 1
    assert data_routes.SLOWEST_CLIENT_SECONDS <= took < 60
    with site.stream():  # none is counted any more
        assert site.n_streams == 1
    await site.close()


async def test_there_are_no_websockets(app: Starlette) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope_of("/p/lab/events"), "type": "websocket"}, never, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_page_acts_through_another_process_only_where_both_know_a_secret() -> None:
    alone, another = Visitors(), Visitors()
    one, two = Visitors(secret="random-and-shared"), Visitors(secret="random-and-shared")

    assert alone.page_token("ann") != another.page_token("ann")
    assert one.page_token("ann") == two.page_token("ann") != two.page_token("ben")
