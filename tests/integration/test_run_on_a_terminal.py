"""`flowq run` on a terminal: what handlers print and log stays above the table, and each moment has its word."""

from __future__ import annotations

import pytest

from tests.integration.flowq_process import FLOWQ
from tests.integration.project import Project
from tests.integration.terminal import Terminal

TALKING = """
import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from flowq import Pipeline, source, stage

@source
def numbers() -> Iterator[int]:
    yield from range(5)

@stage(concurrency=1)
async def take(n: int) -> None:
    logging.getLogger("shop").warning("logged %d", n)
    print("printed", n)
    print("progress 1\\rprogress 2\\rerrors", n, file=sys.stderr)
    await asyncio.sleep(0.2)  # so that the table is painted in between
    while n == 4 and not Path("go").exists():
        await asyncio.sleep(0.05)

lab = Pipeline("lab", numbers >> take)
"""


def terminal(project: Project, *arguments: str) -> Terminal:
    return Terminal((*FLOWQ, "run", "lab", *arguments), project.folder, project.environ, columns=100, lines=40)


def shows_each_line_once(text: str) -> bool:
    """Whether there is all that the handlers have said, and one table with the rest of no other."""
    lines = [line.strip() for line in text.splitlines()]
    messages = [line.partition("WARNING shop: ")[2].partition("  (take ")[0] or line for line in lines]
    said = [f"{what} {n}" for n in range(5) for what in ("logged", "printed", "errors")]
    return all(messages.count(line) == 1 for line in said) and [line[:6] for line in lines].count("stage ") == 1


@pytest.mark.parametrize("arguments", [("--memory",), ("--workers", "2")], ids=["in this process", "in workers"])
@pytest.mark.project({"lab": TALKING})
def test_what_handlers_log_and_print_stays_above_the_table(arguments: tuple[str, ...], project: Project) -> None:
    with terminal(project, *arguments) as screen:
        screen.wait_for(shows_each_line_once)
        (project.folder / "go").touch()
        assert screen.wait() == 0
        assert "drained in" in screen.text
        assert "errors 4" in screen.text


@pytest.mark.parametrize("arguments", [("--memory",), ("--workers", "1")], ids=["in this process", "in a worker"])
@pytest.mark.project({"lab": TALKING})
def test_a_run_that_stops_says_so_and_not_that_it_starts(arguments: tuple[str, ...], project: Project) -> None:
    with terminal(project, *arguments) as screen:
        screen.wait_for(lambda text: "4 of 5 known" in text)
        before = len(screen.raw)
        screen.press("\x03")
        screen.wait_for(lambda text: "stopping  4 of 5 known" in text and "Ctrl-C again: hand them back" in text)
        screen.press("\x03")
        assert screen.wait() == 130
        assert b"starting" not in screen.raw[before:]
        assert "1 left" in screen.text
