"""Runs `flowq top` on a terminal: looks every second, paints, and listens to the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import IO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flowq.cli.framework.keyboard import Keyboard
from flowq.cli.framework.watching import again_and_again, inspectors_of
from flowq.cli.views.status_screen import lost
from flowq.cli.views.table import console_for
from flowq.cli.views.top_view import ORDERS, Sight, Trends, screen
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.settings import Settings

_MOST_SLOW, _MOST_DEAD = 8, 8


class Top:
    """One pipeline at a time on the whole screen, until `q`."""

    def __init__(self, inspectors: Sequence[Inspector]) -> None:
        self._inspectors = inspectors
        self._trends = [Trends() for _ in inspectors]
        self._at = 0
        self._order = 0
        self._shows_dead = False
        self._steers = False
        self._ended = False
        self._woken = asyncio.Event()

    async def run(self, stdin: IO[str], stdout: IO[str]) -> None:
        """Until the person at the keyboard has seen enough."""
        console = console_for(stdout)
        last: RenderableType = Text("")
        with (
            Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
            Keyboard(stdin, self._pressed),
        ):
            async for seen in again_and_again(self._look, wake=self._woken):
                if self._ended:
                    return
                if isinstance(seen, BrokerUnavailable):
                    live.update(Group(lost(seen), last), refresh=True)
                    continue
                trends = self._trends[self._at]
                trends.add(seen.overview)
                last = screen(seen, trends, order=ORDERS[self._order], keys=self._keys(seen), width=console.width)
                live.update(last, refresh=True)

    async def _look(self) -> Sight:
        inspector = self._inspectors[self._at]
        if self._steers:
            self._steers = False
            await (inspector.resume() if await inspector.paused() else inspector.pause())
        overview, slowest = await asyncio.gather(inspector.overview(), inspector.slowest(_MOST_SLOW))
        dead = (await inspector.groups())[:_MOST_DEAD] if self._shows_dead else None
        return Sight(overview, slowest, dead)

    def _pressed(self, key: str) -> None:
        match key:
            case "q":
                self._ended = True
            case "s":
                self._order = (self._order + 1) % len(ORDERS)
            case "p":
                self._steers = True
            case "d":
                self._shows_dead = not self._shows_dead
            case "\t":
                self._at = (self._at + 1) % len(self._inspectors)
            case _:
                return
        self._woken.set()

    def _keys(self, seen: Sight) -> Text:
        steer = "resume" if seen.overview.snapshot.paused else "pause"
        keys = {"q": "quit", "p": steer, "s": f"sort: {ORDERS[self._order]}", "d": "dead letters"}
        if len(self._inspectors) > 1:
            keys["tab"] = "next pipeline"
        line = Text(" ")
        for key, meaning in keys.items():
            line.append(key, "bold").append(f" {meaning}   ", "dim")
        return line


async def show_top(plans: Sequence[Plan], settings: Settings, stdin: IO[str], stdout: IO[str]) -> None:
    """The screen, for as long as it is wanted."""
    async with inspectors_of(plans, settings) as inspectors:
        await Top(inspectors).run(stdin, stdout)
