"""`flowq dashboard`: serves the web page that shows pipelines live."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from flowq.cli.framework.completion import complete_pipeline
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.log_levels import levels_of
from flowq.cli.framework.logs import LogSetup
from flowq.cli.framework.parameters import Here, LogLevels
from flowq.dashboard.mounting import require_extra
from flowq.errors import UsageError
from flowq.monitoring.address import Address, address_of

if TYPE_CHECKING:
    from flowq.dashboard.live.site import PageOptions
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings

TOKEN_VARIABLE = "FLOWQ_DASHBOARD_TOKEN"
_LOOPBACK, _EVERYWHERE = ("127.0.0.1", "::1", "localhost"), ("0.0.0.0", "::")
_TOKEN = re.compile(r"(?:(?P<name>[A-Za-z0-9_.-]{1,64}):)?(?P<token>[A-Za-z0-9_~.+/=-]{22,256})")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]")
_NEW = "new"


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Only these pipelines.  [default: all of this project]",
            show_default=False,
            autocompletion=complete_pipeline,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="The address to listen on; the host is 127.0.0.1 unless given.  [default: :8080]",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME:]TOKEN",
            help=f'Require this token; "{_NEW}" generates one. Repeatable, each with the name of its user.'
            f"  [env: {TOKEN_VARIABLE}]",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host name under which browsers may reach this server. Repeatable."),
    ] = None,
    allow_actions: Annotated[
        bool | None, typer.Option("--allow-actions/--read-only", help="Whether pages can change anything.")
    ] = None,
    show_bodies: Annotated[
        bool | None,
        typer.Option("--show-bodies/--hide-bodies", help="Show the bodies of messages.  [default: on 127.0.0.1]"),
    ] = None,
    log_level: LogLevels = None,
    *,
    settings: Here,
) -> None:
    """Serve a web page that shows pipelines live.

    Runs until it is stopped. Needs no worker. The page is read-only; with --allow-actions it can pause, resume, release
    keys, retry, edit, remove, purge and push.

    Only programs on this machine can reach 127.0.0.1. On any other address a token is required: open the printed
    address once, and the browser keeps a cookie instead.

    Example:
      flowq dashboard
      flowq dashboard scrape --listen :8000 --allow-actions
      flowq dashboard --listen 0.0.0.0:8080 --token new --allow-host flowq.example.org

    Every option except the token can be set in [tool.flowq.dashboard]. Three settings have no option: fields of
    messages to show even where bodies are hidden (show), a link to the logs of a message (log_url), and how far back
    the slider goes (history).

    Exit codes: 0 after SIGTERM, 2 usage, 130 after Ctrl-C.
    """
    LogSetup(levels=levels_of(log_level)).begin()
    require_extra("flowq dashboard")
    page = settings.dashboard
    address = address_of(listen or page.listen, flag="--listen")
    tokens = _tokens(token or os.environ.get(TOKEN_VARIABLE, "").split(","))
    is_here = address.host in _LOOPBACK
    if not is_here and not tokens:
        raise UsageError(
            f"--listen {listen or page.listen}: other machines can reach it, so it needs a token",
            hint=f"--token {_NEW}, or {TOKEN_VARIABLE}",
        )
    from flowq.dashboard.live.site import PageOptions
    from flowq.dashboard.serving import bound

    asked = page.show_bodies if show_bodies is None else show_bodies
    options = PageOptions(
        allow_actions=page.allow_actions if allow_actions is None else allow_actions,
        show_bodies=is_here if asked is None else asked,
        shown_fields=page.show,
        log_url=page.log_url,
        history_seconds=page.history_seconds,
    )
    with bound(address, flag="--listen") as listening:
        at = Address(_LOOPBACK[0] if address.host in _EVERYWHERE else address.host, listening.getsockname()[1])
        plans = _plans(names or (), settings)
        hosts = (*map(_host, allow_host or page.allow_hosts), urlsplit(at.url).netloc.rpartition(":")[0])
        raise typer.Exit(asyncio.run(_serve(plans, settings, options, tokens, hosts, listening, at)))


async def _serve(
    plans: Sequence[Plan],
    settings: Settings,
    options: PageOptions,
    tokens: Mapping[str, str],
    hosts: Sequence[str],
    listening: socket.socket,
    at: Address,
) -> int:
    from flowq.dashboard.access.guard import LOOPBACK
    from flowq.dashboard.access.visitors import Visitors
    from flowq.dashboard.application import application_of
    from flowq.dashboard.serving import serve
    from flowq.runtime.process.ending import StopSignals

    stop = StopSignals()
    stop.install()
    app = application_of(plans, settings, options, Visitors(tokens), hosts=(*LOOPBACK, *hosts))
    for name, token in tokens.items():
        note(f"{name}: {at.url}/?token={token}")
    note(f"{', '.join(plan.name for plan in plans) or 'no pipeline'} at {at.url}")
    await serve(app, listening, stop.requested)
    return stop.exit_code


def _plans(names: Sequence[str], settings: Settings) -> list[Plan]:
    from flowq.cli.framework.watching import plans_of

    return [plan for name in names for plan in plans_of(name, settings)] if names else plans_of(None, settings)


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise UsageError(f"--allow-host: {name} is not the name of a host", hint="--allow-host flowq.example.org")
    return name.lower()


def _tokens(given: Sequence[str]) -> dict[str, str]:
    tokens = dict[str, str]()
    for text in filter(None, given):
        found = _TOKEN.fullmatch(f"token:{secrets.token_urlsafe(32)}" if text == _NEW else text)
        if found is None or len(set(found["token"])) < 8:
            raise UsageError("--token: a token has at least 22 random letters and digits", hint=f"--token {_NEW}")
        tokens[found["name"] or "token"] = found["token"]
    return tokens
