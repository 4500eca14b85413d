"""`flowq exporter`: serves the metrics of all pipelines of a Redis, computed from Redis alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.completion import complete_pipeline
from flowq.cli.framework.connect import broker_of
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.log_levels import levels_of
from flowq.cli.framework.logs import LogSetup
from flowq.cli.framework.parameters import Here, LogLevels
from flowq.cli.run.run_metrics import require_prometheus_client
from flowq.monitoring.address import Address, address_of

if TYPE_CHECKING:
    from flowq.settings import Settings


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Only these pipelines.  [default: all]",
            show_default=False,
            autocompletion=complete_pipeline,
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(metavar="[HOST:]PORT", help="The address to listen on; the host is 127.0.0.1 unless given."),
    ] = ":9100",
    log_level: LogLevels = None,
    *,
    settings: Here,
) -> None:
    """Serve the metrics of all pipelines to Prometheus.

    Runs until it is stopped. /metrics is computed from Redis on each request; it needs neither workers nor the code of
    the pipelines. /healthz and /readyz answer probes. There is no password: listen on an address that only Prometheus
    can reach.

    Example:
      flowq exporter
      flowq exporter scrape --listen 0.0.0.0:9100 --redis redis://localhost:6379/0

    Exit codes: 0 after SIGTERM, 2 usage, 4 Redis unreachable at the start, 130 after Ctrl-C.
    """
    LogSetup(levels=levels_of(log_level)).begin()
    require_prometheus_client("flowq exporter")
    address = address_of(listen, flag="--listen")
    raise typer.Exit(asyncio.run(_serve(address, names or (), settings)))


async def _serve(address: Address, names: Sequence[str], settings: Settings) -> int:
    from flowq.broker.client.many_servers import address_of_all
    from flowq.monitoring.http_server import serving
    from flowq.monitoring.watched import WatchedRedis
    from flowq.runtime.process.ending import StopSignals

    stop = StopSignals()
    stop.install()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_of(names[0] if names else "-", settings, needs_bodies=False))
        watched = WatchedRedis(broker.dialer, settings.namespace, names)
        stack.push_async_callback(watched.close)
        at = await stack.enter_async_context(serving(address, watched, flag="--listen"))
        note(f"metrics of {address_of_all(broker.dialer)} at {at.url}/metrics")
        await stop.requested.wait()
    return stop.exit_code
