"""`flowq apply`: makes Redis agree with a pipeline's code, as `flowq plan` has shown it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.commands.plan import Moves, Sample
from flowq.cli.framework.connect import plan_of, with_broker
from flowq.cli.framework.invocation import as_typed
from flowq.cli.framework.parameters import Here, Json, PipelineName, pairs_of
from flowq.errors import UsageError
from flowq.printable import json_text
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowq.broker.migration.changes import Changes
    from flowq.broker.migration.shards_change import ShardsMoved
    from flowq.broker.redis_streams import Broker


class Misfits(UsageError):
    """Waiting messages no longer fit the code."""

    code = "FQ219"


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

    Moves the messages, dead letters, dedup memory and counters of renamed stages; a renamed source resumes where it
    was. Messages whose edge is gone move to the inlet of their stage, if the stage is still there. Removes empty edges
    that the code no longer has, and records the schemas. Each step is atomic: run the command again if it was
    interrupted. It is refused while a live worker serves an edge that would be moved.

    With another number of shards in the code, everything moves to the shard in which it lives from then on. That needs
    all workers stopped, and until it is done none starts and nothing can be pushed. Fewer shards are possible only if
    those that go hold no messages, dead letters and kept messages.

    Example:
      flowq plan scrape --move parse=extract
      flowq apply scrape --move parse=extract
    """
    from flowq.broker.migration.migrating import Migration
    from flowq.cli.views.changes_view import show_changes
    from flowq.cli.views.shards_change_view import show_moved
    from flowq.inspector import Inspector

    plan = plan_of(name, settings)
    moves = pairs_of("--move", move, "OLD=NEW")

    async def carry_out(broker: Broker) -> tuple[Changes, Mapping[str, int], ShardsMoved]:
        migration = Migration(broker, plan)
        changes = await migration.changes(moves=moves, sample=sample)
        if changes.misfits and not yes:
            show_changes(changes, sys.stderr, json=False)
            raise Misfits(
                f"{changes.misfits:,} messages no longer fit the code; nothing was changed",
                hint="let the earlier version finish them, give new fields a default, or --yes",
            )
        counts = await migration.apply(changes, await Inspector(plan, broker).workers())
        return changes, counts, migration.shards_moved

    changes, moved, by_shards = with_broker(plan.name, settings, carry_out)
    if json:
        done = {"moved": moved, "moved_between_shards": by_shards.as_json()}
        print(json_text({**changes.as_json(), **done}, indent=True))
        return
    if changes.shards:
        show_moved(changes.shards, by_shards)
    for edge, n in moved.items():
        if n:
            to = next(change.to for change in changes.changes if change.edge == edge)
            print(f"moved {counted(n, 'message')} from {edge} to {to}")
    left = [change for change in changes.changes if change.kind == "left" and change.messages]
    for change in left:
        remedy = as_typed(f"--move OLD=NEW moves them, flowq gc {plan.name} removes them")
        print(f"left {change.messages:,} on {change.edge}  ({remedy})")
    print(f"{plan.name} is up to date" + (" otherwise" if left else ""))
