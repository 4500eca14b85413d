"""`flowq status`: shows what waits, runs and died in each stage, whether or not a worker is running."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.options import Json, Namespace, Profile, RedisUrl, settings_here

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from flowq.broker.balance import StageBalance
    from flowq.broker.recorded_plan import Orphan
    from flowq.broker.records import Snapshot
    from flowq.graph.plan import Plan
    from flowq.settings import Settings


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The pipeline; without a name, all of this project.", show_default=False),
    ] = None,
    json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Show what waits, runs and died, stage by stage, in the current run.

    Everything in one pipeline is from one instant: in = ok + filtered + dead + waiting + delayed + running.

    Example:
      flowq status scrape
      flowq status --json | jq '.[] | {pipeline, state, left}'
    """
    settings = settings_here(redis=redis, namespace=namespace, profile=profile)
    plans = [_plan(name, settings)] if name else _all_plans(settings)
    states = asyncio.run(_states(plans, settings))
    if json:
        from flowq.cli.printable import json_text

        found = [state.as_json() for state in states]
        print(json_text(found[0] if name else found, indent=True))
        return
    from flowq.cli.table import console_for

    console = console_for(sys.stdout)
    for i, state in enumerate(states):
        if i:
            console.print()
        _show(state, console)


@dataclass(frozen=True, slots=True)
class PipelineState:
    """One pipeline as it was found."""

    plan: Plan
    snapshot: Snapshot
    balances: Mapping[str, StageBalance]
    workers: Mapping[str, Mapping[str, Any]]  # those that are alive
    orphans: Sequence[Orphan] = ()  # edges of earlier versions with messages on them

    @property
    def state(self) -> str:
        """What the pipeline is doing, in a word."""
        if not self.snapshot.is_drained:
            return "working" if self.workers else "stopped"
        return "drained" if self.snapshot.run or self.snapshot.counters else "never run"

    def as_json(self) -> dict[str, Any]:
        kept = self.snapshot.dead_letters
        return {
            "pipeline": self.plan.name,
            "run": self.snapshot.run.get("id", ""),
            "state": self.state,
            "left": self.snapshot.outstanding,
            "workers": [{"worker": worker, **facts} for worker, facts in self.workers.items()],
            "orphans": {orphan.edge: orphan.outstanding for orphan in self.orphans},
            "stages": {
                name: {**balance.as_json(), **({"dead_letters": kept[name]} if name in kept else {})}
                for name, balance in self.balances.items()
            },
        }


def _plan(name: str, settings: Settings) -> Plan:
    from flowq.cli.loading import load

    return load(name, settings).pipeline.plan


def _all_plans(settings: Settings) -> list[Plan]:
    """The pipelines that can be loaded; what keeps the others from it is told on stderr."""
    from flowq.cli.errors import note
    from flowq.cli.loading import NoPipeline, entries, load_entry
    from flowq.errors import FlowqError

    plans: list[Plan] = []
    for entry in entries(settings):
        try:
            plans.append(load_entry(entry).pipeline.plan)
        except NoPipeline:
            continue
        except FlowqError as error:
            note(f"{entry.name}: {error.message}  (flowq check {entry.name})")
    if not plans:
        note("no pipelines here  (flowq ls)")
    return plans


async def _states(plans: Sequence[Plan], settings: Settings) -> list[PipelineState]:
    from flowq.broker.balance import balance_of
    from flowq.broker.open import open_broker
    from flowq.inspector import Inspector

    states: list[PipelineState] = []
    async with AsyncExitStack() as opened:  # held open together, so that a server of our own is started once
        for plan in plans:
            opening = open_broker(plan.name, redis=settings.redis, namespace=settings.namespace)
            inspector = Inspector(plan, await opened.enter_async_context(opening))
            snapshot = await inspector.snapshot()
            workers = await inspector.workers()
            orphans = [orphan for orphan in await inspector.orphans() if orphan.outstanding]
            states.append(PipelineState(plan, snapshot, balance_of(plan, snapshot), workers, orphans))
    return states


_TITLES = ("stage", "in", "ok", "filtered", "dead", "waiting", "delayed", "running", "retries", "dup", "out")


def _show(state: PipelineState, console: Console) -> None:
    from flowq.cli.run_text import feedback_lines
    from flowq.cli.table import indented, stage_cells, stage_table

    console.print(_headline(state), soft_wrap=True)
    rows = [stage_cells(stage, state.balances[stage.name]) for stage in state.plan.stages]
    console.print(indented(stage_table(_TITLES, rows, console.width - 1)))
    for line in feedback_lines(state.plan, state.snapshot):
        console.print(line)
    kept = sum(state.snapshot.dead_letters.values())
    if kept:
        console.print(f" {kept:,} dead letter{'s' * (kept > 1)}  flowq dlq ls {state.plan.name}", soft_wrap=True)
    for orphan in state.orphans:
        left = f" {orphan.outstanding:,} left on {orphan.edge}, which is no longer in the code"
        console.print(f"{left}  flowq gc {state.plan.name}", soft_wrap=True)
    if state.state == "stopped":
        console.print(f" no worker is running  flowq run {state.plan.name}", soft_wrap=True)


def _headline(state: PipelineState) -> Text:
    from rich.text import Text

    left, n = state.snapshot.outstanding, len(state.workers)
    line = Text.assemble((state.plan.name, "bold"), f"  {state.state}", f", {left:,} left" if left else "")
    line.append(f"  {n or 'no'} worker{'s' * (n != 1)}", "" if n else "dim")
    if run := state.snapshot.run.get("id"):
        line.append(f"  run {run}", "dim")
    return line
