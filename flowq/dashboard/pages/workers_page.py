"""`/p/NAME/workers`: workers with their slots, what runs longest, and keys on hold."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.dashboard.pages.rendering import render


async def _workers(request: Request) -> Response:
    watch = watch_of(request)
    return render(request, "workers.html", watch=watch, look=await watch.look(), tab="workers")


routes = [Route("/p/{name}/workers", _workers)]
