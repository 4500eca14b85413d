"""`flowq status`: shows what is waiting, running and dead in each stage, whether or not a worker is running."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from flowq.cli.framework.parameters import ByShard, Here, Json, PipelineNameOrAll
from flowq.errors import BrokerUnavailable


def command(
    name: PipelineNameOrAll = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep watching on the whole screen.")] = False,
    by_shard: ByShard = False,
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

    Of a pipeline with several shards the numbers are sums, and what is in transit from one shard to another is on no
    edge. A shard that does not answer is named, and missing in the sums; --json then ends with exit code 4, lists it
    under missing, and has null for each of its numbers. --by-shard has a row for each shard.

    --watch is flowq top: the whole screen, updated every second. Without a terminal it prints a line every five
    seconds, or with --json one object per second.

    Example:
      flowq status scrape
      flowq status scrape --watch
      flowq status scrape --by-shard
      flowq status --json | jq '.[] | {pipeline, state, left}'

    Exit codes: 0 done, 2 usage, 4 Redis unreachable, or with --json one of the shards.
    """
    from flowq.broker.embedded.other_folders import messages_elsewhere
    from flowq.cli.framework.error_screen import show
    from flowq.cli.framework.watching import plans_of
    from flowq.cli.views import status_screen

    plans = plans_of(name, settings)
    shown = status_screen.Shown(json=json, alone=name is not None, by_shard=by_shard)
    if not watch:
        is_whole = asyncio.run(status_screen.show_once(plans, settings, sys.stdout, shown))
        sys.stdout.flush()  # warnings go to the other stream, and belong below
        for problem in messages_elsewhere(settings, plans):
            show(problem)
        if json and not is_whole:
            raise typer.Exit(BrokerUnavailable.exit_code)
    elif plans:
        asyncio.run(status_screen.watch(plans, settings, sys.stdin, sys.stdout, shown))
