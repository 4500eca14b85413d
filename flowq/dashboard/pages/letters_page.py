"""`/p/NAME/dead`: dead letters by kind; `/dead/KIND`: those of a kind; `/dead/KIND/ID`: one of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.dashboard.pages.rendering import render


async def _letters(request: Request) -> Response:
    watch = watch_of(request)
    return render(request, "letters.html", watch=watch, look=await watch.look(), tab="dead")


routes = [
    Route("/p/{name}/dead", _letters),
    Route("/p/{name}/dead/{kind}", _letters),
    Route("/p/{name}/dead/{kind}/{id}", _letters),
]
