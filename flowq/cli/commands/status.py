"""`flowq status`: shows what waits, runs and died in each stage, whether or not a worker is running."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from flowq.cli.framework.parameters import Here, Json, PipelineNameOrAll


def command(
    name: PipelineNameOrAll = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show what is waiting, running and dead, stage by stage, in the current run.

    The counters of a pipeline are from one instant: in = ok + filtered + dead + waiting + delayed + running. rate, p50
    and p95 cover the last half minute; p50 and p95 are handler times. oldest is the age of the oldest waiting message.
    ◀ marks the bottleneck.

    Example:
      flowq status scrape
      flowq status scrape --watch
      flowq status --json | jq '.[] | {pipeline, state, left}'
    """
    from flowq.cli.framework.watching import plans_of
    from flowq.cli.views.status_screen import show_on, show_once

    plans = plans_of(name, settings)
    show = show_on if watch else show_once
    asyncio.run(show(plans, settings, sys.stdout, json=json, alone=name is not None))
