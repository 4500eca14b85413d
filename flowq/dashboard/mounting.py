"""Mounts the web page into another program. Imports its web framework only when it is called: it is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from flowq.errors import UsageError
from flowq.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from flowq.dashboard.access.visitors import Auth
    from flowq.graph.compilation.plan import Plan
    from flowq.graph.pipeline import Pipeline

_NEEDED = ("jinja2", "sse_starlette", "starlette", "uvicorn")


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
    auth: called with the Starlette `Request` before anything is answered, including style sheets, scripts and
        the stream of changes; may be `async`. It returns the name of the user, which the audit records; None for a user
        who may not see the page (403); or a response to send instead, such as a redirect to a login. An HTTPException
        of Starlette or FastAPI is answered as by the host's own routes.
    redis, namespace, claim_store: as for `Inspector`.
    allow_actions: the pages can pause, resume, retry, edit, remove and push. Otherwise they are read-only.
    show_bodies: the bodies of messages are shown, except fields named like secrets. `shown_fields`, such as "url" or
        "order.id", are shown even where bodies are hidden.
    log_url: a link to the logs of a message, in which {pipeline}, {stage} and {id} are replaced.
    history_seconds: how far back the slider goes; 0 keeps no history.
    secret: where the host has several processes and `allow_actions`, a random text that all of them know: a page of one
        process may then act through another.

    Watching begins with the first request, or at startup if the host runs the lifespan of the mounted application. Each
    process of the host reads each pipeline once a second for all its users, and has a history of its own.

    Raises UsageError without a pipeline or without the extra `dashboard`, NotConfigured if no Redis is named anywhere,
    and SettingsError for an invalid setting. If Redis cannot be reached, the pages say so and keep trying.

    >>> from flowq import Pipeline, stage
    >>> from starlette.applications import Starlette
    >>> from starlette.requests import Request
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> def user(request: Request) -> str | None:
    ...     return request.cookies.get("user")  # however the host identifies its users
    >>> host = Starlette()
    >>> host.mount("/flowq", dashboard_app(Pipeline("greetings", greet), auth=user, redis="redis://localhost:6379/0"))
    """
    if not pipelines:
        raise UsageError("the web page has no pipeline to show", hint="dashboard_app(pipeline, auth=...)")
    require_extra("dashboard_app")
    from flowq.dashboard.access.visitors import Visitors
    from flowq.dashboard.application import application_of
    from flowq.dashboard.live.site import PageOptions
    from flowq.graph.compilation.plan import Plan

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


def require_extra(name: str) -> None:
    """Raise UsageError where the extra is not installed."""
    if any(find_spec(each) is None for each in _NEEDED):
        raise UsageError(f"{name} needs the extra dashboard", hint='pip install "flowq-streams[dashboard]"')
