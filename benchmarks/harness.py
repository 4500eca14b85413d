"""How long a test with a harness takes: `python -m benchmarks.harness [--reps 5]`."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flowq import Pipeline, Rate, Retry, RetryLater, stage
from flowq.testing import harness
from flowq.testing.scenario import START

N_INPUTS = 1000
DAY = timedelta(days=1)


@stage
async def fetch(number: int) -> int:
    return number


@stage
async def parse(number: int) -> int:
    return number + 1


@stage(batch=100, linger="10ms")
async def enrich(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


@stage
async def store(number: int) -> None: ...


async def four_stages() -> None:
    """Four stages handle 1,000 messages."""
    async with harness(Pipeline("four", fetch >> parse >> enrich >> store)) as h:
        await h.feed(fetch, *range(N_INPUTS))
        await h.drain()
        h.expect(store).any_order([2 * (number + 1) for number in range(N_INPUTS)])


async def a_day() -> None:
    """One host asks for an hour's patience again and again, another fails every hour, for a day."""

    @stage(rate=Rate(10, by=str), retry=Retry(attempts=100, base="1h", max="1h", jitter=False))
    async def visit(host: str) -> str:
        if h.now >= START + DAY:
            return host
        if host == "busy":
            raise RetryLater("HTTP 429", after="1h", hold="visit")
        raise OSError("down")

    async with harness(Pipeline("day", visit)) as h:
        await h.feed(visit, "busy", "down")
        await h.drain()
        h.expect(visit).any_order(["busy", "down"])
        assert len(h.calls(visit)) > 40


AT_MOST_SECONDS = {
    "four stages, 1,000 inputs": (four_stages, 2.0),
    "a day of retries and holds": (a_day, 1.0),
}


def main(reps: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 5) -> None:
    """Measure two tests, each from the start of its harness to its end. Exits with 1 if one takes too long.

    All figures are processor seconds: a harness runs in one thread, and takes no longer on an idle machine.
    """
    table = Table(box=None, header_style="dim")
    for title in ("test", "processor seconds", "at most", ""):
        table.add_column(title, justify="left" if title == "test" else "right")
    are_kept: list[bool] = []
    for what, (test, at_most) in AT_MOST_SECONDS.items():
        measured = statistics.median(_taken(test) for _ in range(reps))
        are_kept.append(measured < at_most)
        table.add_row(what, f"{measured:.2f}", f"{at_most:.2f}", "✓" if are_kept[-1] else "✗")
    Console().print(table)
    raise typer.Exit(not all(are_kept))


def _taken(test: Callable[[], Coroutine[Any, Any, None]]) -> float:
    began = time.process_time()
    asyncio.run(test())
    return time.process_time() - began


if __name__ == "__main__":
    typer.run(main)
