"""The web page as a Starlette application: its routes, and what they share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from flowq.dashboard.access.guard import Guard
from flowq.dashboard.access.response_headers import HEADERS
from flowq.dashboard.access.visitors import Auth, Visitors
from flowq.dashboard.actions import action_routes
from flowq.dashboard.live.site import PageOptions, Site
from flowq.dashboard.pages import data_routes, index_page, letters_page, pipeline_page, trace_page, workers_page
from flowq.dashboard.pages.rendering import render
from flowq.errors import BrokerError, FlowqError, NotFound, Problem, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.pipeline import Pipeline
from flowq.settings import Settings

_LARGEST_BODY_BYTES = 1_000_000
_REFUSED = {
    404: "There is no such page.",
    405: "This address cannot be used in that way.",
    503: "Too many pages are open: each holds a connection.",
}


def dashboard_app(
    *pipelines: Pipeline | Plan,
    auth: Auth,
    redis: str | None = None,
    namespace: str | None = None,
    claim_store: str | Path | None = None,
    allow_actions: bool = False,
    show_bodies: bool = False,
    shown_fields: Sequence[str] = (),
    log_url: str = "",
    history_seconds: float = 3600.0,
    secret: str | None = None,
) -> Starlette:
    """The web page as an application, to mount into a FastAPI or Starlette application behind its own login.

    pipelines: those that are shown, at least one.
    auth: called with the Starlette `Request` before anything is answered, also for the stream of changes and files of
        style; may be `async`. It returns the name of the user, which the audit log records; None for a user who may not
        see the page (403); or a response to send instead, such as a redirect to a login.
    redis, namespace, claim_store: as for `Inspector`.
    allow_actions: the pages can pause, resume, retry, edit, remove and push. Otherwise they can only be read.
    show_bodies: the bodies of messages are shown, except fields named like secrets. `shown_fields` are shown in any
        case, such as "url" or "order.id".
    log_url: a link to the logs of a message, in which {pipeline}, {stage} and {id} are replaced.
    history_seconds: how far back the slider goes; 0 keeps no history.
    secret: where the host has several processes and `allow_actions`, a random text that all of them know: a page of one
        process may then act through another.

    Watching begins with the first request, or, where the host runs the lifespan of the mounted application, when it
    starts. Each process of the host looks once a second for all its users, and has a history of its own.

    Raises UsageError without a pipeline, NotConfigured if no Redis is named anywhere, and SettingsError for a setting
    that is wrong. If Redis cannot be reached, the pages say so and keep trying.

    >>> from flowq import Pipeline, stage
    >>> from starlette.applications import Starlette
    >>> from starlette.requests import Request
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> def user(request: Request) -> str | None:
    ...     return request.cookies.get("user")  # as the host knows its users
    >>> host = Starlette()
    >>> host.mount("/flowq", dashboard_app(Pipeline("greetings", greet), auth=user, redis="redis://localhost:6379/0"))
    """
    if not pipelines:
        raise UsageError("the web page has no pipeline to show", hint="dashboard_app(pipeline, auth=...)")
    settings = Settings.of_program(redis=redis, namespace=namespace, claim_store=claim_store)
    options = PageOptions(
        allow_actions=allow_actions,
        show_bodies=show_bodies,
        shown_fields=tuple(shown_fields),
        log_url=log_url,
        history_seconds=history_seconds,
    )
    plans = [each if isinstance(each, Plan) else settings.tuned(each.name, each).plan for each in pipelines]
    visitors = Visitors(auth=auth) if secret is None else Visitors(auth=auth, secret=secret)
    return application_of(plans, settings, options, visitors, hosts=None)


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
    answer = _error_page(request, status, _REFUSED.get(status, "This did not work."), "")
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
    problem = error.problem() if isinstance(error, FlowqError) else Problem("FQ900", "This did not work.")
    return _error_page(request, status, f"{problem.code} {problem.text}", problem.hint)


def _broken(request: Request, _: Exception) -> Response:
    """A mistake of ours: the log of the server has it, a page never."""
    answer = _error_page(request, 500, "This did not work.", "The log of this server says why.")
    answer.headers.update(HEADERS)  # it is sent from outside of the guard
    return answer


def _error_page(request: Request, status: int, title: str, detail: str) -> Response:
    return render(request, "error.html", status_code=status, title=title, detail=detail)
