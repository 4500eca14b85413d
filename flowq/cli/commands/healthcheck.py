"""`flowq healthcheck`: tells by its exit code whether the workers of this machine or container are well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import Here, Json, PipelineNameOrAll, duration_of

if TYPE_CHECKING:
    from flowq.monitoring.worker_health import WorkerHealth
    from flowq.settings import Settings


def command(
    name: PipelineNameOrAll = None,
    silent: Annotated[
        str, typer.Option(metavar="DURATION", help="A worker that has read nothing for this long is stuck.")
    ] = "30s",
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Check the health of the workers on this machine.

    For HEALTHCHECK, systemd and cron. Looks at the leases of the workers of this machine or container, and at how long
    ago they have read from Redis. Your code is not imported. A worker that waits for messages, or whose handlers take
    long, is well.

    Example:
      flowq healthcheck scrape
      flowq healthcheck scrape --silent 2m --json

    Exit codes: 0 all are well, 1 one is not or none runs here, 2 usage, 4 Redis unreachable.
    """
    from flowq.cli.framework.loading import entries, find

    most_silent_seconds = duration_of("--silent", silent)
    names = [find(name, settings).name] if name else [entry.name for entry in entries(settings)]
    found = asyncio.run(_workers_here(names, settings))
    faults = [fault for worker in found if (fault := worker.fault(most_silent_seconds))]
    if not found:
        faults = [f"no worker of {name or 'this project'} is running here"]
    if json:
        from flowq.printable import json_text

        print(json_text({"healthy": not faults, "faults": faults, "workers": found}, indent=True))
    else:
        for fault in faults:
            note(fault)
        if not faults:
            print(f"{len(found)} worker{'s' * (len(found) != 1)} healthy")
    raise typer.Exit(1 if faults else 0)


async def _workers_here(names: Sequence[str], settings: Settings) -> list[WorkerHealth]:
    """The workers of this machine, by its processes' common space: a container has one of its own."""
    from flowq.broker.open import open_broker
    from flowq.monitoring.worker_health import workers_of

    found = list["WorkerHealth"]()
    async with AsyncExitStack() as opened:
        for name in names:
            opening = open_broker(name, redis=settings.redis, namespace=settings.namespace)
            broker = await opened.enter_async_context(opening)
            found += [worker for worker in await workers_of(broker) if worker.is_here]
    return found
