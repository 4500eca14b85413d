"""`/p/NAME`: balance, attention, graph, time and stages of one pipeline; `/p/NAME/s/STAGE`: with a stage open."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.access.shown_fields import masked_text
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.shapes import HOUR_HEIGHT, HOUR_WIDTH
from flowq.dashboard.live.site import site_of, watch_of
from flowq.dashboard.live.slots import rows
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.rendering import address, render
from flowq.dashboard.pages.stage_drawer import stage_drawer
from flowq.dashboard.picture.graph_picture import GraphPicture
from flowq.durations import duration_text
from flowq.graph.render.labels import drawn_edges, edge_label
from flowq.printable import printable

_PICTURES: WeakKeyDictionary[Watch, dict[str, GraphPicture]] = WeakKeyDictionary()
"""The graph of each pipeline, by what the site is mounted under: laying it out takes longer than all else of a page."""


async def _pipeline(request: Request) -> Response:
    watch = watch_of(request)
    name = request.path_params.get("stage")
    stage = watch.plan.stage(name) if name is not None else None
    look = await watch.look()
    values = _values(request, watch, look) if look else {}
    if look and stage:
        values["opened"] = await stage_drawer(watch, look, stage, site_of(request).settings)
    return render(request, "pipeline.html", watch=watch, look=look, tab="graph", **values)


def _values(request: Request, watch: Watch, look: Look) -> dict[str, Any]:
    plan, opened = watch.plan, request.path_params.get("stage")
    picture = _picture(watch, request.scope.get("root_path", ""))
    return {
        "rows": rows(look),
        "picture": picture,
        "graph_svg": Markup(picture.graph_with(look.texts, opened)),  # every text in it is escaped
        "map_svg": Markup(picture.map.filled(look.texts)) if picture.map else "",
        "hour_width": HOUR_WIDTH,
        "hour_height": HOUR_HEIGHT,
        "out_of": {stage.name: plan.edges_out_of(stage.name) for stage in plan.stages},
        "duration": duration_text,
        "shown": _shown,
        "edge_types": {edge.name: edge_label(plan, edge) for edge in drawn_edges(plan)},
    }


def _shown(text: str) -> str:
    return printable(masked_text(text))


def _picture(watch: Watch, root: str) -> GraphPicture:
    pictures = _PICTURES.setdefault(watch, {})
    if root not in pictures:
        pictures[root] = GraphPicture.of(watch.plan, partial(address, root, "p", watch.plan.name, "s"))
    return pictures[root]


routes = [Route("/p/{name}", _pipeline), Route("/p/{name}/s/{stage}", _pipeline)]
