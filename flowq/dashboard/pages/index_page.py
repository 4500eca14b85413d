"""`/`: all pipelines, the worst first."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import site_of
from flowq.dashboard.pages.rendering import render


async def _index(request: Request) -> Response:
    watches = site_of(request).watches
    looks = await asyncio.gather(*(watch.look() for watch in watches.values()))
    return render(request, "index.html", tab="pipelines", looks=dict(zip(watches, looks, strict=True)))


routes = [Route("/", _index)]
