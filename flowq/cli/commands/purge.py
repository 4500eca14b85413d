"""`flowq purge`: removes the waiting messages of a pipeline or of one stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowq.cli.framework.connect import audited, plan_and_stage, with_broker
from flowq.cli.framework.consent import is_agreed
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineOrStage, Yes
from flowq.printable import json_text
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker


def command(
    target: PipelineOrStage,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Remove waiting messages, delayed ones included, permanently.

    Asks for confirmation, and needs --yes without a terminal. Running messages stay with their workers, and dead
    letters are kept (flowq dlq rm). A stage with dedup= still drops what it has seen.

    Example:
      flowq purge scrape.fetch --dry-run
      flowq purge scrape --yes
    """
    plan, stage = plan_and_stage(target, settings)
    edges = [edge for edge in plan.edges if not stage or edge.target == stage]

    async def remove(broker: Broker) -> None:
        from flowq.dead_letters.purging import Purging

        purging = Purging(broker)
        there = await purging.idle(edges)
        n = sum(there.values())
        messages = counted(n, "message")
        if dry_run or not n:
            would = f"{messages} would be removed from {target}" if n else f"nothing to purge in {target}"
            print(json_text(there, indent=True) if json else would)
            return
        if not yes and not is_agreed(plan.name, f"{messages} of {target}", f"flowq purge {target} --yes"):
            return
        async with audited(broker, "purge", stage) as act:
            removed = await purging.purge(edges, there)
            act.n = sum(removed.values())
        done = f"{counted(sum(removed.values()), 'message')} removed from {target}"
        print(json_text(removed, indent=True) if json else done)
        if running := sum((await purging.idle(edges, running=True)).values()):
            note(f"{counted(running, 'message')} still running, not removed")
        if coming := await purging.in_transit():
            note(f"{counted(coming, 'message')} in transit between shards, not removed: they arrive afterwards")

    with_broker(plan.name, settings, remove, needs_bodies=False)
