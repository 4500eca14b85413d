"""`flowq audit`: shows what users did to a pipeline, by command or on the web page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import plan_of, with_broker
from flowq.cli.framework.parameters import Here, Json, PipelineName
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.broker.audit import AuditRecord


def command(
    name: PipelineName,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="The last N actions.")] = 20,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show who paused, retried, removed or pushed what, latest first.

    It lists what pause, resume, dlq retry, dlq rm, dlq import, replay and purge have done, and all actions on the web
    page, including those that were refused. Redis keeps the last thousand actions on each pipeline.

    Example:
      flowq audit scrape
      flowq audit scrape --json | jq -r '.[] | select(.action == "remove") | .actor'
    """
    from flowq.broker.audit import Audit

    plan = plan_of(name, settings)
    records = with_broker(plan.name, settings, lambda broker: Audit(broker).latest(limit), needs_bodies=False)
    if json:
        print(json_text([record.as_json() for record in records], indent=True))
    elif records:
        _show(records)
    else:
        print(f"no actions on {name} are recorded")


def _show(records: Sequence[AuditRecord]) -> None:
    from rich.text import Text

    from flowq.cli.views.table import Column, console_for, fitted_table, indented, number
    from flowq.wording.moments import moment_of

    console, now = console_for(sys.stdout), datetime.now().astimezone()
    columns = (
        Column("at", worth=9, is_text=True),
        Column("by", worth=8, is_text=True),
        Column("action", worth=10, is_text=True),
        Column("what", worth=7, is_text=True, flexible=True),
        Column("messages", worth=6),
        Column("result", worth=5, is_text=True),
    )
    rows = [
        (
            Text(moment_of(record.at_ms, now), "dim"),
            Text(printable(record.actor)),
            Text(printable(record.action), "bold"),
            Text(printable(record.selection) or "all"),
            number(record.n),
            Text(printable(record.result), "" if record.result == "done" else "red"),
        )
        for record in records
    ]
    console.print(indented(fitted_table(columns, rows, console.width - 1)))
