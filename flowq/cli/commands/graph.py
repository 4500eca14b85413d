"""`flowq graph`: draws a pipeline."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.commands.export import Output, write
from flowq.cli.framework.connect import plan_of
from flowq.cli.framework.parameters import Here, PipelineName
from flowq.errors import UsageError

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings

_FORMATS = ("tree", "mermaid", "dot", "svg", "json")
_FORMAT_OF_SUFFIX = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".json": "json",
}


def command(
    name: PipelineName,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="|".join(_FORMATS), help="[default: tree, or by the suffix of FILE]"),
    ] = None,
    output: Output = None,
    live: Annotated[
        bool, typer.Option("--live", help="Draw the tree with its numbers every second, until Ctrl-C.")
    ] = False,
    *,
    settings: Here,
) -> None:
    """Draw a pipeline: its stages, its edges, and the types they carry.

    Example:
      flowq graph scrape
      flowq graph scrape -f mermaid >> README.md
      flowq graph scrape -o scrape.svg
      flowq graph scrape --live
    """
    plan = plan_of(name, settings)
    if live:
        _draw_live(plan, settings, format=format, output=output)
        return
    from flowq.graph.render import render

    if output is None:
        is_ascii = (sys.stdout.encoding or "").lower().replace("-", "") not in ("utf8", "utf16", "utf32")
        sys.stdout.write(render(plan, format or "tree", ascii=is_ascii))
        return
    drawing = render(plan, format or _FORMAT_OF_SUFFIX.get(output.suffix.lower(), "tree"))
    write(drawing, output)


def _draw_live(plan: Plan, settings: Settings, *, format: str | None, output: Path | None) -> None:
    if output is not None or format not in (None, "tree"):
        raise UsageError("--live draws the tree on the terminal", hint=f"flowq graph {plan.name} --live")
    from flowq.cli.views.graph_live import show_graph

    asyncio.run(show_graph(plan, settings, sys.stdout))
