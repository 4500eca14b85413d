"""Shows pipelines at a glance: once, on the whole screen with keys, or as lines in a log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq.broker.inspection.overview import Overview
from flowq.cli.framework.keyboard import Keyboard
from flowq.cli.framework.watching import again_and_again, inspectors_of
from flowq.cli.views.overview_view import ORDERS, overview_text
from flowq.cli.views.retry_lines import RetryNews
from flowq.cli.views.run_text import phase, progress_line
from flowq.cli.views.table import console_for
from flowq.cli.views.watch_view import Sight, Trends, live_text, pipeline_parts, screen
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.printable import json_text, printable
from flowq.settings import Settings
from flowq.wording.shard_words import trouble_words

_LINE_EVERY_SECONDS = 5.0
_MOST_DEAD = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown: as JSON, of one pipeline alone as an object, else as a list; with a row for each shard."""

    json: bool
    alone: bool
    by_shard: bool


async def show_once(plans: Sequence[Plan], settings: Settings, file: IO[str], shown: Shown) -> bool:
    """Print the state of now. Returns whether it is whole: every shard has answered."""
    async with inspectors_of(plans, settings) as inspectors:
        found = await _overviews(inspectors)
    if shown.json:
        print(_json(found, shown.alone, indent=True), file=file)
    else:
        console = console_for(file)
        texts = [overview_text(overview, console.width, by_shard=shown.by_shard) for overview in found]
        console.print(_below_each_other(texts), soft_wrap=True)
    return all(overview.snapshot.is_whole for overview in found)


async def watch(plans: Sequence[Plan], settings: Settings, stdin: IO[str], file: IO[str], shown: Shown) -> None:
    """Show the state again and again, until interrupted: on the whole screen, as lines in a log, or as JSON."""
    console = console_for(file)
    async with inspectors_of(plans, settings) as inspectors:
        if shown.json:
            async for seen in again_and_again(lambda: _overviews(inspectors)):
                if not isinstance(seen, BrokerUnavailable):
                    print(_json(seen, shown.alone, indent=False), file=file, flush=True)
        elif is_terminal(file):
            await _Screen(inspectors, console, by_shard=shown.by_shard).run(stdin)
        else:
            await _write_lines(inspectors, console)


def is_terminal(file: IO[str]) -> bool:
    """Whether a screen can be painted there."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


def lost(error: BrokerUnavailable) -> Text:
    """Redis does not answer at present; what was seen last stays on the screen."""
    return Text(f" Redis does not answer, retrying: {printable(error.message)}", "yellow")


async def _overviews(inspectors: Sequence[Inspector]) -> list[Overview]:
    return list(await asyncio.gather(*(inspector.overview() for inspector in inspectors)))


def _below_each_other(texts: Sequence[RenderableType]) -> RenderableType:
    return Group(*[part for text in texts for part in (Text(""), text)][1:])


def _json(found: Sequence[Overview], alone: bool, *, indent: bool) -> str:
    values = [overview.as_json() for overview in found]
    return json_text(values[0] if alone else values, indent=indent)


async def _write_lines(inspectors: Sequence[Inspector], console: Console) -> None:
    """A line for each pipeline every few seconds, for a log, if something has changed."""
    first_ms: dict[str, int] = {}
    retries = {inspector.plan.name: RetryNews(inspector.plan) for inspector in inspectors}
    said, is_lost = dict[str, str](), False
    troubles: dict[str, Sequence[str]] = {}
    async for seen in again_and_again(lambda: _overviews(inspectors), every_seconds=_LINE_EVERY_SECONDS):
        if isinstance(seen, BrokerUnavailable):
            if not is_lost:
                console.print(lost(seen), soft_wrap=True)
            is_lost = True
            continue
        is_lost = False
        for overview in seen:
            plan, now_ms = overview.plan, overview.snapshot.now_ms
            passed_seconds = max(0, now_ms - first_ms.setdefault(plan.name, now_ms)) / 1000
            rates = {name: stage.throughput.per_second or 0.0 for name, stage in overview.stages.items()}
            balances = {name: stage.balance for name, stage in overview.stages.items()}
            state = phase(overview.snapshot) if overview.workers else overview.state
            line_of = partial(progress_line, plan, overview.snapshot, state, balances)
            before, said[plan.name] = said.get(plan.name), line_of({}, 0.0)
            lines = [line_of(rates, passed_seconds)] if said[plan.name] != before else []
            known, troubles[plan.name] = troubles.get(plan.name, ()), _troubles(overview)
            lines += [words for words in troubles[plan.name] if words not in known]
            for text in (*lines, *retries[plan.name].read(overview.snapshot)):
                console.print(f"{plan.name}  {text}", soft_wrap=True)


def _troubles(overview: Overview) -> Sequence[str]:
    return [*trouble_words(overview.shards)] if overview.shards is not None else ()


class _Screen:
    """The whole screen, until `q`: all pipelines below each other if there are several, or one of them with details."""

    def __init__(self, inspectors: Sequence[Inspector], console: Console, *, by_shard: bool) -> None:
        self._console = console
        self._trends = {inspector.plan.name: Trends() for inspector in inspectors}
        self._views = [*([inspectors] if len(inspectors) > 1 else []), *([inspector] for inspector in inspectors)]
        self._at = 0
        self._order = 0
        self._shows_dead = False
        self._by_shard = by_shard
        self._to_pause_or_resume: Inspector | None = None
        self._ended = False
        self._woken = asyncio.Event()

    async def run(self, stdin: IO[str]) -> None:
        last: RenderableType = Text("")
        with (
            Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
            Keyboard(stdin, self._pressed),
        ):
            async for seen in again_and_again(self._painted, wake=self._woken):
                if self._ended:
                    return
                if isinstance(seen, BrokerUnavailable):
                    live.update(Group(lost(seen), last), refresh=True)
                else:
                    live.update(last := seen, refresh=True)

    async def _painted(self) -> RenderableType:
        steered, self._to_pause_or_resume = self._to_pause_or_resume, None
        if steered is not None:
            await (steered.resume() if await steered.paused() else steered.pause())
        shown = self._views[self._at]
        if len(shown) > 1:
            texts = [live_text(overview, self._console.width) for overview in await _overviews(shown)]
            return screen([_below_each_other(texts)], self._keys({}))
        (inspector,) = shown
        overview = await inspector.overview()
        dead = (await inspector.groups())[:_MOST_DEAD] if self._shows_dead else None
        trends, order = self._trends[inspector.plan.name], ORDERS[self._order]
        trends.add(overview)
        parts = pipeline_parts(
            Sight(overview, dead, by_shard=self._by_shard), trends, order=order, width=self._console.width
        )
        pause = "resume" if overview.snapshot.paused else "pause"
        shards = {"b": "by shard"} if overview.shards else {}
        return screen(parts, self._keys({"p": pause, "s": f"sort: {order}", "d": "dead letters", **shards}))

    def _pressed(self, key: str) -> None:
        is_alone = len(self._views[self._at]) == 1
        match key:
            case "q":
                self._ended = True
            case "\t":
                self._at = (self._at + 1) % len(self._views)
            case "s" if is_alone:
                self._order = (self._order + 1) % len(ORDERS)
            case "p" if is_alone:
                (self._to_pause_or_resume,) = self._views[self._at]
            case "d" if is_alone:
                self._shows_dead = not self._shows_dead
            case "b" if is_alone:
                self._by_shard = not self._by_shard
            case _:
                return
        self._woken.set()

    def _keys(self, of_one: dict[str, str]) -> Text:
        line = Text(" ")
        tab = {"tab": "next pipeline"} if len(self._views) > 1 else {}
        for key, meaning in {"q": "quit", **of_one, **tab}.items():
            line.append(key, "bold").append(f" {meaning}   ", "dim")
        return line
