"""The web page as a Starlette application: its routes, and what they share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from flowq.dashboard.access.guard import Guard
from flowq.dashboard.access.response_headers import HEADERS
from flowq.dashboard.access.visitors import Visitors
from flowq.dashboard.actions import action_routes
from flowq.dashboard.live.site import PageOptions, Site
from flowq.dashboard.pages import data_routes, index_page, letters_page, pipeline_page, trace_page, workers_page
from flowq.dashboard.pages.rendering import render
from flowq.errors import BrokerError, FlowqError, NotFound, Problem, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.settings import Settings

_LARGEST_BODY_BYTES = 1_000_000
_REFUSED = {
    404: "There is no such page.",
    405: "This address does not accept that method.",
    503: "Too many pages are open. Close some, or try again later.",
}


def application_of(
    plans: Sequence[Plan],
    settings: Settings,
    options: PageOptions,
    visitors: Visitors,
    *,
    hosts: Collection[str] | None,
) -> Starlette:
    """The application for some pipelines of one namespace. `hosts` are explained at `Guard`."""
    site = Site(plans, settings, options)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        site.start()
        try:
            yield
        finally:
            await site.close()

    app = Starlette(
        routes=_routes(options),
        middleware=[
            Middleware(Guard, visitors=visitors, hosts=hosts),
            Middleware(RequestBodyLimitMiddleware, max_body_size=_LARGEST_BODY_BYTES),
            Middleware(GZipMiddleware, minimum_size=1000),
        ],
        exception_handlers={HTTPException: _refused, FlowqError: _failed, Exception: _broken},
        lifespan=lifespan,
    )
    app.state.site = site
    return app


def _routes(options: PageOptions) -> list[BaseRoute]:
    return [
        *index_page.routes,
        *data_routes.routes,  # before the pages: /p/NAME.json would be the page of "NAME.json"
        *pipeline_page.routes,
        *letters_page.routes,
        *trace_page.routes,
        *workers_page.routes,
        *(action_routes.routes() if options.allow_actions else ()),
        Mount("/static", StaticFiles(packages=[("flowq.dashboard", "static")])),
    ]


def _refused(request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    answer = _error_page(request, status, _REFUSED.get(status, "Something went wrong."), "")
    answer.headers.update(headers or {})
    return answer


def _failed(request: Request, error: Exception) -> Response:
    match error:
        case NotFound():
            status = 404
        case UsageError():
            status = 400
        case BrokerError():
            status = 503
        case _:
            status = 500
    problem = error.problem() if isinstance(error, FlowqError) else Problem("FQ900", "Something went wrong.")
    return _error_page(request, status, f"{problem.code} {problem.text}", problem.hint)


def _broken(request: Request, _: Exception) -> Response:
    """An error in flowq or in the login of a host program: the log of the server shows it, a page never does."""
    if not hasattr(request.state, "actor"):  # who asks is not known, so nothing of the pages is shown
        return PlainTextResponse("Something went wrong.\n", 500, HEADERS)
    answer = _error_page(request, 500, "Something went wrong.", "The log of the server says why.")
    answer.headers.update(HEADERS)  # it is sent from outside of the guard
    return answer


def _error_page(request: Request, status: int, title: str, detail: str) -> Response:
    return render(request, "error.html", status_code=status, title=title, detail=detail)
