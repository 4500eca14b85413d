"""Shows pipelines at a glance: once, painted over and over on a terminal, or as lines in a log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.cli.framework.watching import again_and_again, inspectors_of
from flowq.cli.views.overview_view import overview_text
from flowq.cli.views.run_text import progress_line
from flowq.cli.views.table import console_for
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.printable import json_text, printable
from flowq.settings import Settings

_LINE_EVERY_SECONDS = 5.0


async def show_once(plans: Sequence[Plan], settings: Settings, file: IO[str], *, json: bool, alone: bool) -> None:
    """One look. `alone`: JSON of one pipeline as an object, else as a list."""
    async with inspectors_of(plans, settings) as inspectors:
        found = await look_at(inspectors)
    if json:
        values = [overview.as_json() for overview in found]
        print(json_text(values[0] if alone else values, indent=True), file=file)
        return
    console = console_for(file)
    console.print(picture(found, console.width, whole=False), soft_wrap=True)


async def show_on(plans: Sequence[Plan], settings: Settings, file: IO[str], *, json: bool, alone: bool) -> None:
    """Look after look until interrupted."""
    console = console_for(file)
    async with inspectors_of(plans, settings) as inspectors:
        if json:
            await _write_json(inspectors, file, alone=alone)
        elif is_terminal(file):
            await _paint(inspectors, console)
        else:
            await write_lines(inspectors, console)


def is_terminal(file: IO[str]) -> bool:
    """Whether a screen can be painted there."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


async def look_at(inspectors: Sequence[Inspector]) -> list[Overview]:
    """All of them, now."""
    return list(await asyncio.gather(*(inspector.overview() for inspector in inspectors)))


def picture(found: Sequence[Overview], width: int, *, whole: bool = True) -> RenderableType:
    """Pipelines below each other."""
    parts = [part for overview in found for part in (Text(""), overview_text(overview, width, whole=whole))]
    return Group(*parts[1:])


async def _paint(inspectors: Sequence[Inspector], console: Console) -> None:
    last: RenderableType = Text("")
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        async for seen in again_and_again(lambda: look_at(inspectors)):
            if isinstance(seen, BrokerUnavailable):
                live.update(Group(last, lost(seen)), refresh=True)
            else:
                last = picture(seen, console.width)
                live.update(last, refresh=True)


async def write_lines(inspectors: Sequence[Inspector], console: Console) -> None:
    """A line for each pipeline every few seconds, for a log."""
    began: dict[str, int] = {}
    async for seen in again_and_again(lambda: look_at(inspectors), every_seconds=_LINE_EVERY_SECONDS):
        if isinstance(seen, BrokerUnavailable):
            console.print(lost(seen), soft_wrap=True)
            continue
        for overview in seen:
            first_ms = began.setdefault(overview.plan.name, overview.snapshot.now_ms)
            console.print(_line(overview, (overview.snapshot.now_ms - first_ms) / 1000), soft_wrap=True)


def _line(overview: Overview, passed_seconds: float) -> str:
    rates: Mapping[str, float] = {name: stage.throughput.per_second or 0.0 for name, stage in overview.stages.items()}
    balances = {name: stage.balance for name, stage in overview.stages.items()}
    line = progress_line(overview.plan, overview.snapshot, balances, rates, max(0.0, passed_seconds))
    return f"{overview.plan.name}  {line}"


async def _write_json(inspectors: Sequence[Inspector], file: IO[str], *, alone: bool) -> None:
    async for seen in again_and_again(lambda: look_at(inspectors)):
        if not isinstance(seen, BrokerUnavailable):
            values = [overview.as_json() for overview in seen]
            print(json_text(values[0] if alone else values), file=file, flush=True)


def lost(error: BrokerUnavailable) -> Text:
    """Redis is away for a while; what was seen last stays on the screen."""
    return Text(f" Redis does not answer, retrying: {printable(error.message)}", "yellow")
