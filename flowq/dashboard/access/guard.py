"""Comes before every route: decides whether a request is answered, and sets the headers of each answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from contextlib import suppress
from html import escape
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowq.dashboard.access.response_headers import HEADERS, NOT_SENT
from flowq.dashboard.access.visitors import Visitors

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PORT = re.compile(r":[0-9]{1,5}$")
_METHODS = ("GET", "HEAD", "POST")
_LONGEST_FORM_BYTES = 4096
_SIGN_IN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Sign in · flowq</title></head>
<body><main><h1>flowq</h1><p>{said}</p>
<form method="post" action="{action}"><p><label>Token <input type="password" name="token" size="50"
autocomplete="current-password" required autofocus></label> <button>Sign in</button></p></form></main></body></html>
"""


class Guard:
    """Wraps the whole application, so that no path bypasses it.

    `hosts`: names under which the server may be reached; None for all, where a host program decides. A site in a
    visitor's browser that lets its own name point to this server is answered with 421.
    """

    def __init__(self, app: ASGIApp, *, visitors: Visitors, hosts: Collection[str] | None) -> None:
        self._app = app
        self._visitors = visitors
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the routes."""
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in NOT_SENT]
                headers = MutableHeaders(raw=kept)
                headers.update(HEADERS)
                message = {**message, "headers": headers.raw}
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        return await (self._app if answer is None else answer)(scope, receive, with_headers)

    async def _answer(self, request: Request) -> Response | None:
        """What to answer instead of the page; None for a visitor who may see it."""
        if not self._is_called_by_its_name(request):
            return PlainTextResponse("This server does not answer to that name: try --allow-host NAME\n", 421)
        if request.method not in _METHODS:
            return Response(status_code=405)
        asked = await self._visitors.asked(request)
        if isinstance(asked, Response):
            return asked
        if self._visitors.tokens and (given := await _given_token(request, asked)) is not None:
            return self._let_in(request, *given)
        if asked is None and self._visitors.tokens:
            return _sign_in(request)
        if not asked:
            return PlainTextResponse("You may not see this page.\n", 403)
        request.state.actor = asked
        request.state.page_token = self._visitors.page_token(asked)
        return None

    def _let_in(self, request: Request, token: str, is_header: bool) -> Response | None:
        """Exchange a token for a cookie; a program that sends it as a header needs none."""
        now = asyncio.get_running_loop().time()
        address = request.client.host if request.client else ""
        if self._visitors.is_shut(address, now):
            return PlainTextResponse("Too many wrong tokens. Wait a minute.\n", 429, {"retry-after": "60"})
        owner = self._visitors.owner(token)
        if owner is None:
            self._visitors.fail(address, now)
            return _sign_in(request, "That is not a valid token.")
        if is_header:
            request.state.actor = owner
            request.state.page_token = self._visitors.page_token(owner)
            return None
        name, value = self._visitors.cookie(owner)
        answer = RedirectResponse(_without_token(request), 303)
        answer.set_cookie(name, value, httponly=True, samesite="strict", path="/", secure=request.url.scheme == "https")
        return answer

    def _is_called_by_its_name(self, request: Request) -> bool:
        if self._hosts is None:
            return True
        names = request.headers.getlist("host")
        return len(names) == 1 and _PORT.sub("", names[0]).lower() in self._hosts


async def _given_token(request: Request, visitor: str | None) -> tuple[str, bool] | None:
    """The token that a request brings, and whether as a header; None without one.

    A proxy with a password of its own may send a header too: then the token is in the address or the form.
    """
    if "token" in request.query_params:
        return request.query_params["token"], False
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip(), True
    is_form = request.headers.get("content-type") == "application/x-www-form-urlencoded"
    if visitor is None and request.method == "POST" and is_form:
        return await _token_in_form(request), False
    return None


async def _token_in_form(request: Request) -> str:
    """The token of the form; "" without one. It is not known yet who sends it, so no more is read than it has."""
    form = b""
    with suppress(ClientDisconnect):
        async for part in request.stream():
            form += part
            if len(form) > _LONGEST_FORM_BYTES:
                return ""
    return dict(parse_qsl(form.decode(errors="replace"))).get("token", "")


def _without_token(request: Request) -> str:
    """The address to redirect to. A path that begins with // would lead to another server."""
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
    path = "/" + quote(str(request.scope["path"]).lstrip("/\\"))
    return f"{path}?{query}" if query else path


def _sign_in(request: Request, said: str = "Enter the token that flowq dashboard printed when it started.") -> Response:
    """The form leads back to the page that was asked for."""
    return HTMLResponse(_SIGN_IN.format(action=escape(_without_token(request)), said=said), 401)
