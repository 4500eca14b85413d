"""`/p/NAME`: balance, attention, graph, time and stages of one pipeline; `/p/NAME/s/STAGE`: with a stage open."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.dashboard.pages.rendering import render


async def _pipeline(request: Request) -> Response:
    watch = watch_of(request)
    stage = request.path_params.get("stage")
    if stage is not None:
        watch.plan.stage(stage)
    look = await watch.look()
    return render(request, "pipeline.html", watch=watch, look=look, tab="graph", stage=stage)


routes = [Route("/p/{name}", _pipeline), Route("/p/{name}/s/{stage}", _pipeline)]
