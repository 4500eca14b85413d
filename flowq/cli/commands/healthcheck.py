"""`flowq healthcheck`: exits with 0 if the workers on this machine or in this container are healthy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import broker_of
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.loading import name_of, names
from flowq.cli.framework.parameters import Here, Json, PipelineNameOrAll, duration_of
from flowq.printable import json_text
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from flowq.broker.shards.every_shard import OnSilent, SilentShard
    from flowq.monitoring.worker_health import WorkerHealth
    from flowq.settings import Settings


def command(
    name: PipelineNameOrAll = None,
    silent: Annotated[
        str, typer.Option(metavar="DURATION", help="A worker that has not read for this long counts as stuck.")
    ] = "30s",
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Check the health of the workers on this machine.

    For HEALTHCHECK, systemd and cron. Checks the leases of the workers on this machine or in this container, and when
    they last read from Redis. Your code is imported only if it computes the name of a pipeline. A worker that waits
    for messages, or has slow handlers, is healthy. A shard that does not answer is named, and makes no worker
    unhealthy; shard 0, which knows how many there are, has to answer.

    Example:
      flowq healthcheck scrape
      flowq healthcheck scrape --silent 2m --json

    Exit codes: 0 all are healthy, 1 one is not or none runs here, 2 usage, 4 Redis unreachable.
    """
    most_silent_seconds = duration_of("--silent", silent)
    missing = list["SilentShard"]()
    found = asyncio.run(_workers_here([name_of(name, settings)] if name else names(settings), settings, missing.append))
    faults = [fault for worker in found if (fault := worker.fault(most_silent_seconds))]
    if not found:
        faults = [f"no worker of {name or 'this project'} is running here"]
    if json:
        seen = {"healthy": not faults, "faults": faults, "workers": found}
        print(json_text({**seen, "missing": [each.as_json() for each in missing]} if missing else seen, indent=True))
    else:
        from flowq.wording.shard_words import silent_words

        for words in silent_words(missing):
            note(f"{words}: what workers do there is unknown")
        for fault in faults:
            note(fault)
        if not faults:
            print(f"{counted(len(found), 'worker')} healthy")
    raise typer.Exit(1 if faults else 0)


async def _workers_here(names: Sequence[str], settings: Settings, on_silent: OnSilent) -> list[WorkerHealth]:
    """The workers on this machine, by their PID namespace: a container has its own."""
    from flowq.monitoring.worker_health import workers_of

    found = list["WorkerHealth"]()
    async with AsyncExitStack() as opened:  # together, so that a server of our own is started once
        for name in names:
            broker = await opened.enter_async_context(broker_of(name, settings, needs_bodies=False))
            found += [worker for worker in await workers_of(broker, on_silent=on_silent) if worker.is_here]
    return found
