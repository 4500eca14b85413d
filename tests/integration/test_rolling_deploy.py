"""A deployment as docs/upgrading.md describes it: old and new workers at once, under load, and nothing is lost."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest

from tests.integration.project import Project

BATCH = 100

OLD = """
from __future__ import annotations
import asyncio
from pydantic import BaseModel
from flowq import Pipeline, stage

class Item(BaseModel):
    n: int

class Row(BaseModel):
    n: int

@stage(concurrency=1)
async def parse(item: Item) -> Row:
    await asyncio.sleep(0.01)  # slow enough for both versions to get some
    return Row(n=item.n)

@stage
async def store(row: Row) -> None:
    with open("stored", "a") as file:
        file.write(f"old {row.n}\\n")

lab = Pipeline("lab", parse >> store)
"""
# A field more, a type that the old version does not know, and a stage between the two.
NEW = """
from __future__ import annotations
import asyncio
from pydantic import BaseModel
from flowq import Pipeline, stage

class Item(BaseModel):
    n: int
    unit: str = ""

class Row(BaseModel):
    n: int

class Priced(BaseModel):
    n: int
    cents: int

@stage(concurrency=1)
async def parse(item: Item) -> Row:
    await asyncio.sleep(0.01)  # slow enough for both versions to get some
    return Row(n=item.n)

@stage
async def price(row: Row) -> Priced: return Priced(n=row.n, cents=100)

@stage
async def store(row: Row | Priced) -> None:
    with open("stored", "a") as file:
        file.write(f"new {row.n}\\n")

lab = Pipeline("lab", parse >> price >> store)
"""


pytestmark = pytest.mark.project({"lab": OLD}, redis="bundled")


def push(project: Project, first: int) -> None:
    (project.folder / "items").write_text("\n".join(f'{{"n": {n}}}' for n in range(first, first + BATCH)))
    project.ok("push", "lab.parse", "@items")


def stored(project: Project) -> Counter[int]:
    file = project.folder / "stored"
    return Counter(int(line.split()[1]) for line in file.read_text().splitlines()) if file.exists() else Counter()


def by_whom(project: Project) -> set[str]:
    return {line.split()[0] for line in (project.folder / "stored").read_text().splitlines()}


def test_workers_of_two_versions_share_the_work_and_every_message_is_stored_once(project: Project) -> None:
    old = project.start("run", "lab", "--forever")
    push(project, 0)
    old.wait_for(lambda: len(stored(project)) == BATCH)

    project.write("lab", NEW)
    push(project, BATCH)
    new = project.start("run", "lab", "--forever")
    new.wait_for(lambda: len(json.loads(project.run("status", "lab", "--json").stdout)["workers"]) == 2)
    push(project, 2 * BATCH)
    new.wait_for(lambda: len(stored(project)) == 3 * BATCH and by_whom(project) == {"old", "new"})
    old.popen.send_signal(signal.SIGTERM)
    assert old.wait() == 0
    push(project, 3 * BATCH)
    new.wait_for(lambda: len(stored(project)) == 4 * BATCH)
    new.popen.send_signal(signal.SIGTERM)
    assert new.wait() == 0

    assert set(stored(project).values()) == {1}
    state = json.loads(project.run("status", "lab", "--json").stdout)
    assert (state["left"], sum(stage["dead"] for stage in state["stages"].values())) == (0, 0)
    left_over = json.loads(project.run("plan", "lab", "--json").stdout)["changes"]
    assert [(change["kind"], change["edge"], change["messages"]) for change in left_over] == [
        ("left", "parse>store", 0)
    ]
    assert project.run("apply", "lab").stdout == "lab is up to date\n"
    project.ok("plan", "lab", "--exit-code")
