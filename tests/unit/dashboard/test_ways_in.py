"""The guard and its errors before it knows who sends a request, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowq import Pipeline, dashboard_app, stage
from flowq.dashboard.access.guard import Guard
from flowq.dashboard.access.visitors import Visitors
from flowq.dashboard.application import application_of
from flowq.dashboard.live.site import PageOptions, Site
from flowq.settings import Settings

TOKEN = "k3rJq8Zt1vXw5yB7nM2pD4sF"
FORM = {"content-type": "application/x-www-form-urlencoded"}
OF_A_PROXY = {"authorization": "Basic YW5uOnMzY3JldA=="}
NO_REDIS = "redis://127.0.0.1:1/0"


class Asked:
    """One request to an application: what it answered, and how many parts of the body it read."""

    def __init__(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Sequence[bytes] = (b"",)
    ) -> None:
        path, _, query = path.partition("?")
        named = {"host": "localhost", **(headers or {})}
        self._scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "state": {},
        }
        self._parts = list(body)
        self.n_read = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.has_begun = asyncio.Event()

    async def of(self, app: ASGIApp) -> Asked:
        await app(self._scope, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        if self.n_read == len(self._parts):
            await asyncio.Event().wait()  # the connection stays open
        self.n_read += 1
        has_more = self.n_read < len(self._parts)
        return {"type": "http.request", "body": self._parts[self.n_read - 1], "more_body": has_more}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message.get("body", b"").decode()
            self.has_begun.set()


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"let in"})


def guarded() -> Guard:
    return Guard(nothing, visitors=Visitors({"ann": TOKEN}), hosts=["localhost"])


async def test_a_form_from_an_unknown_sender_is_read_no_further_than_a_token() -> None:
    endless = await Asked("POST", "/", FORM, [b"token=", *[b"x" * 1000] * 1000]).of(guarded())
    right = await Asked("POST", "/", FORM, [b"token=", TOKEN.encode()]).of(guarded())

    assert (endless.status, "set-cookie" in endless.headers) == (401, False)
    assert endless.n_read < 10
    assert (right.status, "set-cookie" in right.headers) == (303, True)


async def test_an_exception_by_which_the_login_of_the_host_refuses_is_answered_as_it_says() -> None:
    def user(request: Request) -> str:
        raise HTTPException(401, "log in first", {"www-authenticate": "Bearer"})

    async def later(request: Request) -> str:
        return user(request)

    for auth in (user, later):
        asked = await Asked("GET", "/").of(Guard(nothing, visitors=Visitors(auth=auth), hosts=["localhost"]))

        assert (asked.status, asked.text, asked.headers["www-authenticate"]) == (401, "log in first\n", "Bearer")


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [("GET", f"/p/lab?token={TOKEN}", {}, b""), ("POST", "/p/lab", FORM, f"token={TOKEN}".encode())],
    ids=["address", "form"],
)
async def test_behind_a_proxy_with_its_own_password_a_token_still_becomes_a_cookie(
    method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    asked = await Asked(method, path, {**headers, **OF_A_PROXY}, [body]).of(guarded())

    assert (asked.status, asked.headers["location"], "set-cookie" in asked.headers) == (303, "/p/lab", True)


async def test_a_program_that_sends_its_token_as_a_header_needs_no_cookie() -> None:
    asked = await Asked("GET", "/", {"authorization": f"Bearer {TOKEN}"}).of(guarded())

    assert (asked.status, asked.text, "set-cookie" in asked.headers) == (200, "let in", False)


async def test_a_login_of_the_host_that_fails_shows_nothing_of_the_pages() -> None:
    @stage
    async def secret_stage(name: str) -> None: ...

    def broken(request: Request) -> str | None:
        raise LookupError("no such session")

    asked = Asked("GET", "/")
    with pytest.raises(LookupError, match="no such session"):  # for the log of the host
        await asked.of(dashboard_app(Pipeline("hidden", secret_stage), auth=broken, redis=NO_REDIS))

    assert (asked.status, asked.text) == (500, "Something went wrong.\n")
    assert asked.headers["cache-control"] == "no-store"


async def test_an_open_list_of_pipelines_ends_with_its_site() -> None:
    app: Any = application_of([], Settings.of_program(redis=NO_REDIS), PageOptions(), Visitors(), hosts=None)
    site: Site = app.state.site
    asked = Asked("GET", "/events")
    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asked.of(app))
            await asked.has_begun.wait()
            await site.close()

    assert asked.status == 200
    assert asked.text.endswith("event: bye\ndata: {}\n\n")
