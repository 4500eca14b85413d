"""`/`: all pipelines, the worst first; `/events`: the changes of that list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.broker.client.redis_url import redact
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.page_changes import BYE, Changes
from flowq.dashboard.live.site import Site, site_of
from flowq.dashboard.live.watch import EVERY_SECONDS, trouble_text
from flowq.dashboard.pages.data_routes import Stream
from flowq.dashboard.pages.fleet_slots import fleet_slots, severity
from flowq.dashboard.pages.rendering import render
from flowq.dashboard.picture.thumbnail import thumbnail

_MANY = 8  # from this number on, the lines are closer together


async def _index(request: Request) -> Response:
    site = site_of(request)
    watches, settings = site.watches, site.settings
    looks = await _looks(site)
    wanted = request.query_params.get("q", "").casefold()
    shown = sorted((name for name in watches if wanted in name.casefold()), key=lambda name: severity(looks[name]))
    trouble = _trouble(site)
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
        conn="error" if trouble else "live" if all(looks.values()) else "load",
        trouble=trouble,
        feed=f"{request.scope.get('root_path', '')}/events" if watches else "",
        is_tight=len(watches) >= _MANY,
    )


async def _changes(site: Site) -> AsyncGenerator[bytes]:
    changes = Changes("fleet")
    while not site.is_closed:  # a further look would begin the watches again
        looks = await _looks(site)
        about: dict[str, Any] = {"every_ms": round(EVERY_SECONDS * 1000)}
        if trouble := _trouble(site):
            about["trouble"] = trouble
        if trouble or all(looks.values()):
            yield changes.add(_slots(looks), {}, about).plain
        await asyncio.sleep(EVERY_SECONDS)
    yield BYE.plain


async def _events(request: Request) -> Response:
    site = site_of(request)
    return Stream(site, _changes(site), is_packed=False)


async def _looks(site: Site) -> dict[str, Look | None]:
    looks = await asyncio.gather(*(watch.look() for watch in site.watches.values()))
    return dict(zip(site.watches, looks, strict=True))


def _trouble(site: Site) -> str:
    return next((trouble_text(watch.trouble) for watch in site.watches.values() if watch.trouble is not None), "")


def _slots(looks: Mapping[str, Look | None]) -> dict[str, str]:
    return {slot: text for look in looks.values() if look is not None for slot, text in fleet_slots(look).items()}


routes = [Route("/", _index), Route("/events", _events)]
