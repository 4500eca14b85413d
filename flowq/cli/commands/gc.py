"""`flowq gc`: removes what a pipeline no longer needs, on request: edges with their messages, and large bodies."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.parameters import Here, Json, PipelineName
from flowq.errors import ClaimStoreUnavailable, UsageError

if TYPE_CHECKING:
    from flowq.broker.migration.recorded_plan import Orphan
    from flowq.broker.redis_streams import Broker
    from flowq.broker.stored_bodies import OrphanedBodies
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings


def command(
    name: PipelineName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them without asking.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Remove edges that a pipeline no longer has, with their messages, and large bodies without a message.

    An edge is left over when a stage was renamed or removed. What waits on it stays, until it is removed here or the
    stage comes back. Dead letters are kept. A large body (claim_above=) is left over when its message was purged, or
    when a worker was killed before it could send it; it is removed when it is a day old. Off a terminal, without --yes,
    everything is only listed.

    Example:
      flowq gc scrape
      flowq gc scrape --yes
    """
    from flowq.cli.framework.loading import load

    asyncio.run(_collect(load(name, settings).pipeline.plan, settings, yes=yes, json=json))


async def _collect(plan: Plan, settings: Settings, *, yes: bool, json: bool) -> None:
    from flowq.broker.stored_bodies import YOUNGEST_ORPHAN_SECONDS, StoredBodies
    from flowq.cli.framework.connect import broker_of
    from flowq.inspector import Inspector

    async with broker_of(plan.name, settings) as broker:
        inspector = Inspector(plan, broker)
        orphans = await inspector.orphans()
        with contextlib.suppress(ClaimStoreUnavailable):  # what cannot be seen is left alone
            await StoredBodies(broker).delete_released()
        bodies = await StoredBodies(broker).orphaned(plan, older_than_seconds=YOUNGEST_ORPHAN_SECONDS)
        if not json:
            _list(plan, orphans)
            _tell_of(bodies, broker)
        found = bool(orphans or bodies.paths)
        remove = found and (yes or (not json and _is_agreed(plan, orphans, bodies)))
        if remove:
            _refuse_served(orphans, await inspector.workers())
            await _remove(broker, orphans)
            if broker.claims is not None:
                await broker.claims.remove(bodies.paths)
    if json:
        from flowq.printable import json_text

        gone: list[dict[str, object]] = [
            {"edge": orphan.edge, "messages": orphan.outstanding, "removed": remove} for orphan in orphans
        ]
        if bodies.paths:
            gone.append({"files": len(bodies.paths), "bytes": bodies.n_bytes, "removed": remove})
        print(json_text(gone, indent=True))
    elif remove:
        n = sum(orphan.outstanding for orphan in orphans)
        edges = f"{len(orphans)} edge{'s' * (len(orphans) > 1)} with {_messages(n)}" if orphans else ""
        print("removed " + " and ".join(filter(None, (edges, _bodies(bodies)))))


async def _remove(broker: Broker, orphans: Sequence[Orphan]) -> None:
    from flowq.broker.migration.recorded_plan import RecordedPlan

    for orphan in orphans:
        if not await RecordedPlan(broker).drop(orphan):
            raise UsageError(f"{orphan.edge} has changed since it was listed, and was kept", hint="run flowq gc again")


def _refuse_served(orphans: Sequence[Orphan], workers: Mapping[str, Mapping[str, object]]) -> None:
    from flowq.broker.migration.moving import StillServed

    for orphan in orphans:
        for worker, facts in workers.items():
            edges = facts.get("edges")
            if isinstance(edges, list) and orphan.edge in edges:
                raise StillServed(
                    f"{orphan.edge} is still served by worker {worker}; nothing was removed",
                    hint="stop the workers of the earlier version; one that was killed counts until its lease ends",
                )


def _list(plan: Plan, orphans: Sequence[Orphan]) -> None:
    from datetime import datetime

    from rich.text import Text

    from flowq.cli.views.table import Column, console_for, fitted_table, indented, number
    from flowq.printable import printable

    if not orphans:
        print(f"{plan.name} has no edges left over")
        return
    columns = (
        Column("edge", worth=9, is_text=True),
        Column("messages", worth=8),
        Column("takes", worth=1, is_text=True, flexible=True),
        Column("last run", worth=2, is_text=True),
    )
    rows = [
        (
            Text(printable(orphan.edge)),
            number(orphan.outstanding, "yellow"),
            Text(printable(" | ".join(orphan.accepts))),
            Text(datetime.fromtimestamp(orphan.seen_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M"), "dim"),
        )
        for orphan in orphans
    ]
    console = console_for(sys.stdout)
    console.print(indented(fitted_table(columns, rows, console.width - 1)))


def _tell_of(bodies: OrphanedBodies, broker: Broker) -> None:
    if bodies.paths and broker.claims is not None:
        print(f"{_bodies(bodies)} in {broker.claims} that no message refers to")


def _is_agreed(plan: Plan, orphans: Sequence[Orphan], bodies: OrphanedBodies) -> bool:
    """Whether a person says so. What holds messages is not removed for a mere key pressed."""
    from flowq.cli.framework.consent import is_agreed

    n = sum(orphan.outstanding for orphan in orphans)
    what = " and ".join(filter(None, (_messages(n) if orphans else "", _bodies(bodies))))
    return is_agreed(plan.name, what, f"flowq gc {plan.name} --yes")


def _messages(n: int) -> str:
    return f"{n:,} message{'s' * (n != 1)}"


def _bodies(bodies: OrphanedBodies) -> str:
    from flowq.cli.views.quantities import size

    n = len(bodies.paths)
    return f"{n:,} large bod{'ies' if n != 1 else 'y'} of {size(bodies.n_bytes)}" if n else ""
