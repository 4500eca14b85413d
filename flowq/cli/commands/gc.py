"""`flowq gc`: removes orphaned edges with their messages, and orphaned large bodies."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flowq.cli.framework.connect import plan_of, with_broker
from flowq.cli.framework.consent import is_agreed
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import Here, Json, PipelineName, Yes
from flowq.errors import ClaimStoreUnavailable, UsageError
from flowq.printable import json_text, printable
from flowq.wording.quantities import counted, size

if TYPE_CHECKING:
    from flowq.broker.migration.recorded_plan import Orphan
    from flowq.broker.redis_streams import Broker
    from flowq.broker.stored_bodies import OrphanedBodies
    from flowq.graph.compilation.plan import Plan
    from flowq.inspector import Inspector


def command(
    name: PipelineName,
    yes: Yes = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Remove edges that a pipeline no longer has, with their messages, and large bodies without a message.

    An edge is orphaned when its stage was renamed or removed. Its messages wait until they are moved (flowq plan shows
    where to), removed here, or the stage is back. Dead letters are kept. A large body (claim_above=) is orphaned when
    its message was purged, or when a worker was killed before it could send it; it is removed once it is a day old,
    in a pipeline with several shards only while no worker is alive.
    Without a terminal and without --yes, everything is only listed.

    Example:
      flowq gc scrape
      flowq gc scrape --yes
    """
    plan = plan_of(name, settings)
    with_broker(plan.name, settings, lambda broker: _collect(plan, broker, yes=yes, json=json))


async def _collect(plan: Plan, broker: Broker, *, yes: bool, json: bool) -> None:
    from flowq.broker.stored_bodies import YOUNGEST_ORPHAN_SECONDS, OrphanedBodies, StoredBodies
    from flowq.inspector import Inspector

    inspector = Inspector(plan, broker)
    orphans, bodies = await inspector.orphans(), OrphanedBodies((), 0)
    with contextlib.suppress(ClaimStoreUnavailable):  # what cannot be seen is left alone
        for shard in broker.shards:
            await StoredBodies(shard).delete_released()
    if len(broker.shards) > 1 and plan.claiming and await _may_move(inspector):
        note("large bodies were not looked for: their messages may move between shards until all workers have stopped")
    else:
        bodies = await StoredBodies(broker).orphaned(plan, older_than_seconds=YOUNGEST_ORPHAN_SECONDS)
    if not json:
        _list(plan, orphans)
        if bodies.paths:
            print(f"{_bodies(bodies)} in {broker.claims} that no message refers to")
    messages = counted(sum(orphan.outstanding for orphan in orphans), "message")
    what = " and ".join(filter(None, (messages if orphans else "", _bodies(bodies))))
    remove = bool(what) and (yes or (not json and is_agreed(plan.name, what, f"flowq gc {plan.name} --yes")))
    if remove:
        _refuse_served(orphans, await inspector.workers())
        await _remove(broker, orphans)
        if broker.claims is not None:
            await broker.claims.remove(bodies.paths)
    if json:
        gone: list[dict[str, object]] = [
            {"edge": orphan.edge, "messages": orphan.outstanding, "removed": remove} for orphan in orphans
        ]
        if bodies.paths:
            gone.append({"files": len(bodies.paths), "bytes": bodies.n_bytes, "removed": remove})
        print(json_text(gone, indent=True))
    elif remove:
        edges = f"{counted(len(orphans), 'edge')} with {messages}" if orphans else ""
        print("removed " + " and ".join(filter(None, (edges, _bodies(bodies)))))


async def _may_move(inspector: Inspector) -> bool:
    return bool(await inspector.workers()) or bool((await inspector.snapshot()).in_transit)


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
            Text(printable(" | ".join(orphan.recorded.accepts))),
            Text(datetime.fromtimestamp(orphan.recorded.seen_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M"), "dim"),
        )
        for orphan in orphans
    ]
    console = console_for(sys.stdout)
    console.print(indented(fitted_table(columns, rows, console.width - 1)))
    if any(orphan.outstanding for orphan in orphans):
        note(f"flowq plan {plan.name} shows where they can go instead")


def _bodies(bodies: OrphanedBodies) -> str:
    n = len(bodies.paths)
    return f"{n:,} large bod{'ies' if n != 1 else 'y'} of {size(bodies.n_bytes)}" if n else ""
