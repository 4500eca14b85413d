"""`flowq replay`: runs messages again that a stage has settled and kept."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flowq.cli.dead_letters.dlq_options import Limit, Where, kinds
from flowq.cli.framework.completion import complete_stage
from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineName


def command(
    name: PipelineName,
    stage: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="The stage to start from.",
            show_default=False,
            autocompletion=complete_stage,
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DURATION", help='Only those that were settled in the last "30m", "2h", "1d".'),
    ] = None,
    where: Where = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Rerun settled messages that a stage has kept, from that stage on.

    The stage must keep them: @stage(keep="1h"), or keep=1000 for a number of messages. Messages keep their ids; their
    outputs are new messages. Running the command twice puts nothing back twice, and messages that have run again are
    kept again. A later stage with dedup= drops what it has seen before.

    Example:
      flowq replay flights --from enrich --since 1h --dry-run
      flowq replay flights --from enrich --where dest=SJU
    """
    from flowq.cli.framework.connect import broker_of
    from flowq.cli.framework.error_screen import note
    from flowq.cli.framework.loading import load
    from flowq.cli.views.run_text import command_to_finish
    from flowq.dead_letters.kept import Kept
    from flowq.inspector import Inspector
    from flowq.printable import json_text

    plan = load(name, settings).pipeline.plan
    chosen = kinds(stage, None, since, where)

    async def put_back() -> tuple[int, str]:
        async with broker_of(plan.name, settings) as broker:
            kept = Kept(plan, broker, stage)
            n = await kept.replay(since=chosen.since, where=chosen.where, limit=limit, dry_run=dry_run)
            inspector = Inspector(plan, broker)
            return n, "" if await inspector.workers() else command_to_finish(plan, await inspector.snapshot())

    n, to_finish = asyncio.run(put_back())
    if json:
        print(json_text({stage: n}))
        return
    messages = f"{n:,} message{'s' * (n != 1)}"
    print(f"{messages} would run again from {stage}" if dry_run else f"{messages} run again from {stage}")
    if n and to_finish and not dry_run:
        note(f"no worker is running:  {to_finish}")
