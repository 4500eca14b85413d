"""What the script of a page and programs read: the stream of changes, a moment of the past, and JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flowq.dashboard.access.shown_fields import masked_text
from flowq.dashboard.live.site import Site, site_of, watch_of
from flowq.dashboard.live.watch import Watch
from flowq.errors import BrokerUnavailable, UsageError
from flowq.printable import json_text

SLOWEST_CLIENT_SECONDS = 10.0


class Stream(EventSourceResponse):
    """Events until the page is closed, or its connection takes no more."""

    def __init__(self, site: Site, content: AsyncGenerator[bytes], *, is_packed: bool) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  (its content may be an untyped dict)
            content,
            headers={"vary": "accept-encoding", **({"content-encoding": "gzip"} if is_packed else {})},
            ping=0,  # a viewer has its own, which can be compressed
            send_timeout=SLOWEST_CLIENT_SECONDS,
        )
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._site.stream(), suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


async def _read(watch: Watch, last_id: str, *, is_packed: bool) -> AsyncGenerator[bytes]:
    with watch.viewer(last_id, is_packed=is_packed) as viewer:
        async for data in viewer.stream():
            yield data


async def _events(request: Request) -> Response:
    is_packed = "gzip" in request.headers.get("accept-encoding", "")
    last_id = request.headers.get("last-event-id", "")
    return Stream(site_of(request), _read(watch_of(request), last_id, is_packed=is_packed), is_packed=is_packed)


async def _moment(request: Request) -> Response:
    """The texts of a page at a moment of the last hour: `?t=` in milliseconds since 1970."""
    watch = watch_of(request)
    text = request.query_params.get("t", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError("t is a moment in milliseconds since 1970", hint="at?t=1790000000000")
    found = watch.moments.at(int(text))
    if found is None:
        return Response(status_code=204)
    at_ms, texts = found
    return _json({"at": at_ms, "since": watch.moments.since_ms, "set": texts})


async def _status(request: Request) -> Response:
    """What `flowq status --json` prints, but the errors without passwords in URLs, as on the pages."""
    watch = watch_of(request)
    look = await watch.look()
    if look is None or look.trouble is not None:
        raise watch.trouble or BrokerUnavailable("Redis has not answered yet")
    status = look.overview.as_json()
    for error in (each for stage in status["stages"].values() for each in stage["errors"]):
        error["error"] = masked_text(error["error"])
    return _json(status)


def _json(value: object) -> Response:
    return Response(json_text(value), media_type="application/json")


routes = [
    Route("/p/{name}.json", _status),
    Route("/p/{name}/events", _events),
    Route("/p/{name}/at", _moment),
]
