"""`/p/NAME/trace/ID`: the ancestors and descendants of a message."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.broker.inspection.family import FamilySearch
from flowq.dashboard.live.site import watch_of
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.rendering import render
from flowq.dashboard.pages.trace_view import TraceView, trace_view
from flowq.dead_letters.lineage import Lineage
from flowq.wording.quantities import counted

_LONGEST_ID = 1000
_SECONDS, _PER_STEP, _MOST_SEARCHES = 1.0, 2000, 8


async def _trace(request: Request) -> Response:
    watch = watch_of(request)
    look = await watch.look()
    asked = request.path_params.get("id") or request.query_params.get("id", "").strip()
    values = await _family(watch, asked[:_LONGEST_ID]) if asked else {}
    return render(request, "trace.html", watch=watch, look=look, tab="trace", at="", **{**_NOTHING, **values})


async def _family(watch: Watch, message_id: str) -> dict[str, Any]:
    search = await _SEARCHES.look_on(watch, message_id)
    lineage = await Lineage.of_search(search, watch.broker)
    now = datetime.now().astimezone()
    view = TraceView([], [])
    if lineage.is_known:  # in a thread: the tree of 50,000 messages takes a quarter of a second
        view = await asyncio.to_thread(trace_view, lineage, watch.plan, round(now.timestamp() * 1000), now)
    return {
        "message_id": message_id,
        "root_id": lineage.root_id,
        "members": f"{counted(len(lineage.ids()) + lineage.left_out, 'message')} of its family known",
        "looked": f"searched {search.looked_at:,} of {counted(search.total, 'message')}",
        "goes_on": not search.is_complete,
        "rows": view.rows,
        "marks": view.marks,
    }


class _Searches:
    """Searches that are under way: each request for the same message continues where the last one ended."""

    def __init__(self) -> None:
        self._by_watch: WeakKeyDictionary[Watch, OrderedDict[str, FamilySearch]] = WeakKeyDictionary()

    async def look_on(self, watch: Watch, message_id: str) -> FamilySearch:
        """Search for a second, from the beginning if the last search for this message has ended."""
        searches = self._by_watch.setdefault(watch, OrderedDict())
        # A search is taken out while it is used, so that two requests at once do not share it.
        search = searches.pop(message_id, None) or FamilySearch(watch.plan, watch.broker, message_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + _SECONDS
        while not search.is_complete and loop.time() < until:
            await search.step(_PER_STEP)
        if not search.is_complete:
            searches[message_id] = search
            while len(searches) > _MOST_SEARCHES:
                searches.popitem(last=False)
        return search


_SEARCHES = _Searches()
_NOTHING: dict[str, Any] = {"message_id": "", "rows": [], "marks": [], "looked": "", "goes_on": False}

routes = [Route("/p/{name}/trace", _trace), Route("/p/{name}/trace/{id:path}", _trace)]
