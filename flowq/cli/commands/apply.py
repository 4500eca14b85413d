"""`flowq apply`: makes Redis agree with a pipeline's code, as `flowq plan` has shown it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.commands.plan import Moves, Sample, pairs_of
from flowq.cli.framework.parameters import Here, Json, PipelineName
from flowq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowq.broker.migration.changes import Changes


class Misfits(UsageError):
    """Messages that wait are not what the code takes any more."""

    code = "FQ208"


def command(
    name: PipelineName,
    move: Moves = None,
    sample: Sample = 1000,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Apply even if messages do not fit and will become dead letters.")
    ] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Bring Redis in line with the code of a pipeline.

    Moves the messages and dead letters of renamed stages, what they have seen and their counters; a renamed source
    resumes where it was. Removes edges that are gone and empty; records the schemas. Each step is atomic: if
    interrupted, the same command does the rest. Refused while a worker that serves an edge to be moved is alive.

    Example:
      flowq plan scrape --move parse=extract
      flowq apply scrape --move parse=extract
    """
    from flowq.broker.migration.migrating import Migration
    from flowq.cli.framework.connect import broker_of
    from flowq.cli.framework.loading import load
    from flowq.cli.views.changes_view import show_changes
    from flowq.inspector import Inspector

    plan = load(name, settings).pipeline.plan
    moves = pairs_of(move)

    async def carry_out() -> tuple[Changes, Mapping[str, int]]:
        async with broker_of(plan.name, settings) as broker:
            changes = await Migration(broker, plan).changes(moves=moves, sample=sample)
            if changes.misfits and not yes:
                show_changes(changes, sys.stderr, json=False)
                raise Misfits(
                    f"{changes.misfits:,} messages no longer fit the code; nothing was changed",
                    hint="let the earlier version finish them, give new fields a default, or --yes",
                )
            return changes, await Migration(broker, plan).apply(changes, await Inspector(plan, broker).workers())

    changes, moved = asyncio.run(carry_out())
    if json:
        from flowq.printable import json_text

        print(json_text({**changes.as_json(), "moved": moved}, indent=True))
        return
    for edge, n in moved.items():
        if not n:
            continue
        to = next(change.to for change in changes.changes if change.edge == edge)
        print(f"moved {n:,} message{'s' * (n != 1)} from {edge} to {to}")
    left = [change for change in changes.changes if change.kind == "left" and change.messages]
    for change in left:
        print(f"left {change.messages:,} on {change.edge}  (flowq gc {name}, or --move)")
    print(f"{name} is up to date" + (" otherwise" if left else ""))
