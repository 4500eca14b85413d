"""`/`: all pipelines, the worst first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.broker.client.redis_url import redact
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.site import site_of
from flowq.dashboard.pages.fleet_slots import fleet_slots, severity
from flowq.dashboard.pages.rendering import render
from flowq.dashboard.picture.thumbnail import thumbnail

_MANY = 8  # from here on the lines are closer


async def _index(request: Request) -> Response:
    site = site_of(request)
    watches, settings = site.watches, site.settings
    looks = dict(zip(watches, await asyncio.gather(*(watch.look() for watch in watches.values())), strict=True))
    wanted = request.query_params.get("q", "").casefold()
    shown = sorted((name for name in watches if wanted in name.casefold()), key=lambda name: severity(looks[name]))
    troubles = [watch.trouble for watch in watches.values() if watch.trouble is not None]
    return render(
        request,
        "index.html",
        tab="pipelines",
        shown=shown,
        redis="the Redis of flowq" if settings.is_embedded else redact(settings.redis or ""),
        namespace=settings.namespace,
        wanted=request.query_params.get("q", ""),
        looks=looks,
        pictures={name: thumbnail(watches[name].plan) for name in shown},
        slots=_slots(looks),
        conn="error" if troubles else "live" if all(looks.values()) else "load",
        trouble=f"{troubles[0].code} {troubles[0].message}" if troubles else "",
        is_tight=len(watches) >= _MANY,
    )


def _slots(looks: Mapping[str, Look | None]) -> dict[str, str]:
    return {slot: text for look in looks.values() if look is not None for slot, text in fleet_slots(look).items()}


routes = [Route("/", _index)]
