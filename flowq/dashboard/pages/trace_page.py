"""`/p/NAME/trace/ID`: the ancestors and descendants of a message."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.dashboard.pages.rendering import render


async def _trace(request: Request) -> Response:
    watch = watch_of(request)
    return render(
        request, "trace.html", watch=watch, look=await watch.look(), tab="trace", id=request.path_params.get("id", "")
    )


routes = [Route("/p/{name}/trace", _trace), Route("/p/{name}/trace/{id}", _trace)]
