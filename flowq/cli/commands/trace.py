"""`flowq trace`: shows the ancestors and descendants of a message, and where each of them is now."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import plan_of, with_broker
from flowq.cli.framework.parameters import Here, Json, PipelineName
from flowq.errors import NotFound
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from rich.text import Text

    from flowq.broker.inspection.browse import Found
    from flowq.dead_letters.lineage import Lineage
    from flowq.graph.compilation.plan import Plan

_STYLES = {"waiting": "yellow", "running": "cyan", "delayed": "yellow", "dead": "bold red", "done": "green"}


def command(
    name: PipelineName,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a message.")],
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show the ancestors and descendants of a message, starting at its root, and where each is now.

    Below a message are its failed attempts, as far as they are known: the last three kinds of errors. A settled message
    leaves no trace unless its stage has keep=; only its id is known then, from its descendants. The search reads every
    message of the pipeline: a million take a few seconds.

    Example:
      flowq trace scrape 019c2f7a00000001
      flowq trace scrape 019c2f7a00000001 --json | jq '.messages[].places[].state'
    """
    from flowq.dead_letters.lineage import Lineage

    plan = plan_of(name, settings)
    lineage = with_broker(plan.name, settings, lambda broker: Lineage.of(plan, broker, message_id), needs_bodies=False)
    if not lineage.is_known:
        raise NotFound(
            f'no trace of a message {message_id} in "{name}"',
            hint=f"it may be settled: @stage(keep=...) keeps those; flowq peek {plan.name} shows ids",
        )
    if json:
        print(json_text(lineage.as_json(), indent=True))
    else:
        _show(lineage, plan)


def _show(lineage: Lineage, plan: Plan) -> None:
    from rich.text import Text

    from flowq.cli.views.retry_lines import failure_words
    from flowq.cli.views.table import console_for

    console = console_for(sys.stdout)
    for depth, message_id, places in lineage.tree():
        marked = message_id == lineage.message_id
        line = Text("  " * depth + ("▸ " if marked else "  "))
        line.append(printable(message_id), "bold" if marked else "")
        for found in places:
            line.append("  ").append(_place(found))
        if not places:
            line.append("  settled or removed", "dim")
        console.print(line, soft_wrap=True)
        for found in places:
            stage = plan.edge_by_name[found.place].target if found.place in plan.edge_by_name else found.place
            for failure in lineage.failures(found):
                indent = " " * (2 * depth + 4)
                words = failure_words(failure, plan.stage(stage).retry.attempts, console.width - len(indent))
                console.print(Text(indent + words, "dim"), soft_wrap=True)


def _place(found: Found) -> Text:
    from rich.text import Text

    from flowq.wording.moments import moment_of

    at = moment_of(found.at_ms, datetime.now().astimezone())
    text = {
        "waiting": f"waiting on {found.place} since {at}",
        "running": f"running on {found.place} at {found.worker}",
        "delayed": f"delayed on {found.place} until {at}",
        "dead": f"dead in {found.place} since {at}, letter {found.entry_id}",
        "done": f"done in {found.place} at {at}",
    }[found.state]
    return Text(printable(text), _STYLES[found.state])
