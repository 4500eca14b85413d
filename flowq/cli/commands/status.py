"""`flowq status`: shows what is waiting, running and dead in each stage, whether or not a worker is running."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from flowq.cli.framework.parameters import Here, Json, PipelineNameOrAll


def command(
    name: PipelineNameOrAll = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep watching on the whole screen.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show what is waiting, running and dead, stage by stage, in the current run.

    The counters of a pipeline are from one instant: in = ok + filtered + dead + waiting + delayed + running. rate, p50
    and p95 cover the last half minute; p50 and p95 are handler times. oldest is the age of the oldest waiting message.
    8 +32 running are 8 messages in a handler, and 32 that workers have read ahead.

    cause says what limits a stage: paused, held back by a stage that it feeds, no worker, on hold, paced by its rate,
    or busy; keeps up or idle if nothing does. forecast says when its edges will be full or empty if the trend of the
    last half minute continues. ◀ marks the bottleneck.

    Warns when messages wait in another data folder of the project: a program that was started in another folder may
    have put them there.

    --watch is flowq top: the whole screen, updated every second. Without a terminal it prints a line every five
    seconds, or with --json one object per second.

    Example:
      flowq status scrape
      flowq status scrape --watch
      flowq status --json | jq '.[] | {pipeline, state, left}'
    """
    from flowq.broker.embedded.other_folders import messages_elsewhere
    from flowq.cli.framework.error_screen import show
    from flowq.cli.framework.watching import plans_of
    from flowq.cli.views import status_screen

    plans = plans_of(name, settings)
    alone = name is not None
    if not watch:
        asyncio.run(status_screen.show_once(plans, settings, sys.stdout, json=json, alone=alone))
        sys.stdout.flush()  # warnings go to the other stream, and belong below
        for problem in messages_elsewhere(settings, plans):
            show(problem)
    elif plans:
        asyncio.run(status_screen.watch(plans, settings, sys.stdin, sys.stdout, json=json, alone=alone))
