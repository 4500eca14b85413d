"""`flowq trace`: shows the ancestors and descendants of a message, and where each of them is now."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import plan_of, with_broker_for_views
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import Here, Json, PipelineName
from flowq.errors import NotFound
from flowq.printable import json_text, printable
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from rich.text import Text

    from flowq.broker.inspection.family import Found
    from flowq.broker.redis_streams import Broker
    from flowq.dead_letters.lineage import Lineage, TreeRow
    from flowq.graph.compilation.plan import Plan

_QUIET_SECONDS = 2.0
_STYLES = {"waiting": "yellow", "running": "cyan", "delayed": "yellow", "dead": "bold red", "done": "green",
           "in transit": "cyan"}  # fmt: skip


def command(
    name: PipelineName,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a message.")],
    all_: Annotated[bool, typer.Option("--all", help="Show every message, even of a large family.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show the ancestors and descendants of a message, starting at its root, and where each is now.

    Below a message are its failed attempts, as far as they are known: the last three kinds of errors. A settled message
    leaves no trace unless its stage has keep=; only its id is known then, from its descendants. The search reads the
    header of every message of the pipeline: a million take a few seconds, and Ctrl-C shows what was found so far. Of a
    large family, the tree shows the most important messages and counts the others.

    Example:
      flowq trace scrape 019c2f7a00000001
      flowq trace scrape 019c2f7a00000001 --json | jq '.messages[].places[].state'
    """
    from flowq.wording.shard_words import silent_words

    plan = plan_of(name, settings)
    lineage = with_broker_for_views(plan, settings, lambda broker: _search(plan, broker, message_id))
    looked = f"searched {lineage.looked_at:,} of {counted(lineage.total, 'message')}"
    if not lineage.is_known and not lineage.is_complete:
        raise NotFound(f"nothing found of a message {message_id} so far", hint=looked)
    if not lineage.is_known:
        raise NotFound(
            f'no trace of a message {message_id} in "{name}"'
            + "".join(f"; {words}" for words in silent_words(lineage.silent)),
            hint=f"it may be settled: @stage(keep=...) keeps those; flowq peek {plan.name} shows ids",
        )
    if json:
        print(json_text(lineage.as_json(), indent=True))
        return
    _show(lineage, plan, cuts=not all_)
    if not lineage.is_complete:
        note(looked)
    for words in silent_words(lineage.silent):
        note(f"{words}: not searched")
    if lineage.left_out:
        note(f"{lineage.left_out:,} more messages of the family are left out")


async def _search(plan: Plan, broker: Broker, message_id: str) -> Lineage:
    """What is found until the end of the search, or until the user interrupts it."""
    import asyncio

    from flowq.broker.inspection.family import FamilySearch
    from flowq.dead_letters.lineage import Lineage

    search, begun, is_told = FamilySearch(plan, broker, message_id), time.monotonic(), False
    try:
        while not search.is_complete:
            await search.step()
            if not is_told and time.monotonic() - begun > _QUIET_SECONDS:
                is_told = True
                note(f"{counted(search.total, 'message')} to search: Ctrl-C shows what was found so far")
    except asyncio.CancelledError:  # by Ctrl-C
        pass
    return await Lineage.of_search(search, broker)


def _show(lineage: Lineage, plan: Plan, *, cuts: bool) -> None:
    from rich.text import Text

    from flowq.cli.views.retry_lines import alike_attempts, failure_words
    from flowq.cli.views.table import console_for
    from flowq.dead_letters.lineage import TreeRow

    console = console_for(sys.stdout)
    rows = lineage.rows() if cuts else [TreeRow(*row) for row in lineage.tree()]
    for row in rows:
        depth, message_id, places = row.depth, row.message_id, row.places
        marked = message_id == lineage.message_id
        line = Text("  " * depth + ("▸ " if marked else "  "))
        if row.n_hidden:
            console.print(line.append(_hidden(row), "dim"), soft_wrap=True)
            continue
        line.append(printable(message_id), "bold" if marked else "")
        for found in places:
            line.append("  ").append(_place(found))
        if not places:
            line.append("  settled or removed", "dim")
        console.print(line, soft_wrap=True)
        for found in places:
            stage = plan.edge_by_name[found.place].target if found.place in plan.edge_by_name else found.place
            for alike, when in alike_attempts(lineage.attempts(found), datetime.now().astimezone()):
                indent = " " * (2 * depth + 4) + when
                words = failure_words(alike, plan.stage(stage).retry.attempts, console.width - len(indent))
                console.print(Text(indent + words, "dim"), soft_wrap=True)


def _hidden(row: TreeRow) -> str:
    """How many messages are not shown, and in which states they are."""
    settled = row.n_hidden - sum(row.hidden.values())
    states = [f"{n:,} {state}" for state, n in row.hidden.items()] + [f"{settled:,} settled or removed"] * bool(settled)
    return f"and {row.n_hidden:,} more: {', '.join(states)}  (--all shows them)"


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
        "in transit": f"in transit on {found.place} from shard {found.shard}",
    }[found.state]
    if found.shard is not None and found.state != "in transit":
        text += f", shard {found.shard}"
    return Text(printable(text), _STYLES[found.state])
