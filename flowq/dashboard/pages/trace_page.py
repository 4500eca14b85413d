"""`/p/NAME/trace/ID`: the ancestors and descendants of a message."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.dashboard.live.site import watch_of
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.rendering import render
from flowq.dashboard.pages.trace_view import MOST_CHILDREN, trace_view
from flowq.dead_letters.lineage import Lineage
from flowq.wording.quantities import counted

_LONGEST_ID = 1000


async def _trace(request: Request) -> Response:
    watch = watch_of(request)
    look = await watch.look()
    asked = request.path_params.get("id") or request.query_params.get("id", "").strip()
    values = await _family(watch, asked[:_LONGEST_ID], _first(request)) if asked else {}
    return render(request, "trace.html", watch=watch, look=look, tab="trace", at="", **{**_NOTHING, **values})


_NOTHING: dict[str, Any] = {"message_id": "", "summary": "", "rows": [], "marks": [], "missing": "", "go_on": ""}


async def _family(watch: Watch, message_id: str, first: int) -> dict[str, Any]:
    lineage = await Lineage.of(watch.plan, watch.broker, message_id)
    if not lineage.is_known:
        missing = "It may be settled: only stages with keep= keep those. Or it never was in this pipeline."
        return {"message_id": message_id, "missing": missing}
    now = datetime.now().astimezone()
    view = trace_view(lineage, watch.plan, round(now.timestamp() * 1000), now, first=first)
    n = len(lineage.ids())
    return {
        "message_id": message_id,
        "summary": f"{counted(n, 'message')} of the root {lineage.root_id}",
        "rows": view.rows,
        "marks": view.marks,
        "next_children": first + MOST_CHILDREN,
    }


def _first(request: Request) -> int:
    """The number of the first child to show."""
    text = request.query_params.get("from", "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 9 else 0


routes = [Route("/p/{name}/trace", _trace), Route("/p/{name}/trace/{id:path}", _trace)]
