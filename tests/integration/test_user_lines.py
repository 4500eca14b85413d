"""An error names the deepest line of the user's own code, wherever the handler ran and whatever library raised it."""

from __future__ import annotations

import json

import pytest

from tests.integration.project import Project

LIBRARY = """
import asyncio

class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.lock = asyncio.Lock

def raise_it(*args):
    raise Unpicklable("from the library", args)

async def hang():
    await asyncio.sleep(3600)
"""
PIPELINE = """
import asyncio
from collections.abc import Iterator
import aclient
from flowq import Pipeline, Reject, Retry, source, stage

ONCE = Retry(attempts=1)

def price(text: str) -> int:
    return aclient.raise_it(text)  # called by all

@source
def texts() -> Iterator[str]:
    yield "a"

@stage(retry=ONCE)
def in_thread(text: str) -> None:
    price(text)

@stage(retry=ONCE, process=True)
def in_process(text: str) -> None:
    price(text)

@stage(retry=ONCE)
async def in_group(text: str) -> None:
    async def part() -> None:
        price(text)
    async with asyncio.TaskGroup() as group:
        group.create_task(part())

@stage(retry=ONCE, timeout=0.2)
async def too_long(text: str) -> None:
    await aclient.hang()  # hangs

@stage(retry=ONCE)
async def cancelled(text: str) -> None:
    task = asyncio.create_task(aclient.hang())
    task.cancel()
    await task  # was cancelled

@stage
def rejected(text: str) -> None:
    raise Reject("unwanted")  # rejects

@stage(retry=ONCE, batch=5)
async def batches(texts: list[str]) -> None:
    price(texts[0])

STAGES = (in_thread, in_process, in_group, too_long, cancelled, rejected, batches)
lab = Pipeline("lab", *(texts >> each for each in STAGES))
"""
LINES = {
    "in_thread": "# called by all",
    "in_process": "# called by all",
    "in_group": "# called by all",
    "too_long": "# hangs",
    "cancelled": "# was cancelled",
    "rejected": "# rejects",
    "batches": "# called by all",
}


def place_of(text: str) -> str:
    number = next(number for number, line in enumerate(PIPELINE.lstrip("\n").splitlines(), 1) if text in line)
    return f"pipelines/lab.py:{number}"


@pytest.mark.project({"lab": PIPELINE, "lib/site-packages/aclient.py": LIBRARY, "pyproject.toml": "[tool.flowq]\n"})
def test_dead_letters_name_the_deepest_line_of_the_users_code(project: Project) -> None:
    project.variables["PYTHONPATH"] = str(project.folder / "lib" / "site-packages")
    assert project.run("run", "lab").wait() == 3

    groups = json.loads(project.ok("dlq", "ls", "lab", "--json").stdout)
    assert {group["stage"]: group["place"] for group in groups} == {
        stage: place_of(text) for stage, text in LINES.items()
    }
    table = project.ok("dlq", "ls", "lab").stdout
    assert table.count(place_of("# called by all").removeprefix("pipelines/")) == 4
    number = next(group["position"] for group in groups if group["stage"] == "in_process")
    letter = json.loads(project.ok("dlq", "show", "lab", str(number), "--json").stdout)
    assert letter["place"] == place_of("# called by all")
    shown = project.ok("dlq", "show", "lab", letter["id"]).stdout.splitlines()
    assert shown[2] == f"{place_of('# called by all')} in price"
    trace = project.ok("trace", "lab", letter["message_id"]).stdout
    assert "attempt 1 of 1: " in trace
    assert place_of("# called by all") in trace
    assert "from the library" in trace
