"""`flowq plan`: compares a pipeline's code with what is in Redis, before it is deployed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flowq.cli.framework.connect import plan_of, with_broker
from flowq.cli.framework.parameters import Here, Json, PipelineName, pairs_of

Moves = Annotated[
    list[str] | None,
    typer.Option("--move", "-m", metavar="OLD=NEW", help="A renamed stage or source. Repeatable."),
]
Sample = Annotated[
    int, typer.Option("--sample", min=1, metavar="N", help="Messages to validate on each edge whose schema differs.")
]


def command(
    name: PipelineName,
    move: Moves = None,
    sample: Sample = 1000,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Compare the code with what is in Redis, and change nothing.

    Shows new edges, removed edges with their messages, and schemas that differ, with the number of waiting messages
    that no longer fit. With another number of shards in the code: about how many messages and which remembered values
    would move, and what shards that would go still hold. Run it before a deployment; flowq apply makes the changes.

    Example:
      flowq plan scrape
      flowq plan scrape --move parse=extract
      flowq plan scrape --exit-code --json
    """
    from flowq.broker.migration.migrating import Migration
    from flowq.cli.views.changes_view import show_changes

    plan = plan_of(name, settings)
    moves = pairs_of("--move", move, "OLD=NEW")

    changes = with_broker(
        plan.name, settings, lambda broker: Migration(broker, plan).changes(moves=moves, sample=sample)
    )
    show_changes(changes, sys.stdout, json=json)
    if (changes.changes or changes.shards) and exit_code:
        raise typer.Exit(1)
