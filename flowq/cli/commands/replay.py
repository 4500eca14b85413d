"""`flowq replay`: runs messages again that a stage has settled and kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.dead_letters.dlq_options import Limit, Where, how_to_finish, kinds
from flowq.cli.framework.completion import complete_stage
from flowq.cli.framework.connect import audited, plan_of, with_broker
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import DryRun, Here, Json, PipelineName
from flowq.printable import json_text
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker


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
    from flowq.dead_letters.kept import Kept
    from flowq.inspector import Inspector
    from flowq.wording.shell_commands import selection_words

    plan = plan_of(name, settings)
    chosen = kinds(stage, None, since, where)

    words = selection_words(replace(chosen, stage=None, limit=limit), since or "")

    async def put_back(broker: Broker) -> tuple[int, str]:
        kept = Kept(plan, broker, stage)
        replay = partial(kept.replay, since=chosen.since, where=chosen.where, limit=limit, dry_run=dry_run)
        if dry_run:
            return await replay(), ""
        async with audited(broker, "replay", "--from", stage, *words) as act:
            act.n = n = await replay()
        return n, await how_to_finish(Inspector(plan, broker))

    n, to_finish = with_broker(plan.name, settings, put_back)
    if json:
        print(json_text({stage: n}))
        return
    print(f"{counted(n, 'message')} {'would run again' if dry_run else 'run again'} from {stage}")
    if n and to_finish and not dry_run:
        note(f"no worker is running:  {to_finish}")
