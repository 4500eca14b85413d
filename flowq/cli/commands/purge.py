"""`flowq purge`: removes the messages that wait, of a whole pipeline or of one stage, when told to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineOrStage, Yes

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings


def command(
    target: PipelineOrStage,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Remove waiting messages, delayed ones included, permanently.

    Says how many and asks first; off a terminal it needs --yes. Running messages stay with their workers, and dead
    letters are kept (flowq dlq rm). What a stage with dedup= has seen stays seen.

    Example:
      flowq purge scrape.fetch --dry-run
      flowq purge scrape --yes
    """
    from flowq.cli.framework.loading import load

    name, _, stage = target.partition(".")
    plan = load(name, settings).pipeline.plan
    if stage:
        plan.stage(stage)
    asyncio.run(_purge(plan, settings, target, stage, yes=yes, dry_run=dry_run, json=json))


async def _purge(
    plan: Plan, settings: Settings, target: str, stage: str, *, yes: bool, dry_run: bool, json: bool
) -> None:
    from flowq.broker.open import open_broker
    from flowq.cli.framework.consent import is_agreed
    from flowq.cli.framework.error_screen import note
    from flowq.dead_letters.purging import Purging
    from flowq.printable import json_text

    edges = [edge for edge in plan.edges if not stage or edge.target == stage]
    async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
        there = await Purging(broker).idle(edges)
        n = sum(there.values())
        if dry_run or not n:
            would = f"{_messages(n)} would be removed from {target}" if n else f"nothing waits in {target}"
            print(json_text(there, indent=True) if json else would)
            return
        if not yes and not is_agreed(plan.name, f"{_messages(n)} of {target}", f"flowq purge {target} --yes"):
            return
        removed = await Purging(broker).purge(edges, there)
        running = sum((await Purging(broker).idle(edges, running=True)).values())
    n = sum(removed.values())
    print(json_text(removed, indent=True) if json else f"{_messages(n)} removed from {target}")
    if running:
        note(f"{_messages(running)} still running, not removed")


def _messages(n: int) -> str:
    return f"{n:,} message{'s' * (n != 1)}"
