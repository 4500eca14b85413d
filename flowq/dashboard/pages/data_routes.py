"""What the script of a page and programs read: `/p/NAME.json`, what `flowq status --json` prints."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.errors import BrokerUnavailable
from flowq.printable import json_text


async def _json(request: Request) -> Response:
    watch = watch_of(request)
    look = await watch.look()
    if look is None or look.trouble is not None:
        raise watch.trouble or BrokerUnavailable("Redis has not answered yet")
    return Response(json_text(look.overview.as_json()), media_type="application/json")


routes = [Route("/p/{name}.json", _json)]
