"""`/p/NAME/workers`: workers with their slots, the longest running messages, and keys on hold."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.dashboard.live.site import watch_of
from flowq.dashboard.pages.rendering import render
from flowq.dashboard.pages.workers_view import crew_of, gone_of, held_row, summary_of
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan
from flowq.wording.shell_commands import shell_command

_MOST_HELD = 50


async def _workers(request: Request) -> Response:
    watch = watch_of(request)
    look, name, now = await watch.look(), watch.plan.name, datetime.now().astimezone()
    held = look.overview.held if look else ()
    return render(
        request,
        "workers.html",
        watch=watch,
        look=look,
        tab="workers",
        at="",
        summary=summary_of(look.overview) if look else "Redis has not answered yet",
        crew=crew_of(look.overview) if look else [],
        gone=gone_of(look.overview, now) if look else [],
        longest=look.overview.slowest if look else (),
        duration=duration_text,
        held=[held_row(key) for key in held[:_MOST_HELD]],
        more_held=f"and {len(held) - _MOST_HELD:,} more" if len(held) > _MOST_HELD else "",
        start_command=shell_command("flowq", "run", name),
        release_command=_release(watch.plan, held[0]) if held else "",
    )


def _release(plan: Plan, held: HeldKey) -> str:
    rate = plan.stage(held.stage).rate
    by = rate.by if rate is not None else None
    return shell_command("flowq", "resume", f"{plan.name}.{held.stage}", *(("--key", f"{by}={held.key}") if by else ()))


routes = [Route("/p/{name}/workers", _workers)]
