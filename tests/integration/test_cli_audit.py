"""`flowq audit` shows what users did by command, by whom and on how many messages."""

from __future__ import annotations

import getpass
import json
import socket
from typing import Any

import pytest

from tests.integration.project import Project

LAB = """
from __future__ import annotations
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, source, stage

class Item(BaseModel):
    n: int

@source
def items() -> Iterator[Item]:
    yield from (Item(n=n) for n in range(5))

@stage(rate=Rate(1000, by="n"), keep=10)
async def tidy(item: Item) -> Item:
    if item.n < 3:
        raise Reject("too small")
    return item

@stage
async def store(item: Item) -> None: ...

lab = Pipeline("lab", items >> tidy >> store)
"""

pytestmark = pytest.mark.project({"lab": LAB}, redis="debian", COLUMNS="120")


def audit(project: Project) -> list[dict[str, Any]]:
    return json.loads(project.ok("audit", "lab", "--json").stdout)


def test_every_action_is_listed_latest_first(project: Project) -> None:
    assert project.ok("audit", "lab").stdout == "no actions on lab are recorded\n"
    assert project.run("run", "lab", "-q").wait() == 3
    project.ok("pause", "lab.store")
    project.ok("pause", "lab", "--key", "n=it's")
    project.ok("resume", "lab")
    project.ok("dlq", "retry", "lab", "--stage", "tidy", "-n", "1", "--set", "n=7", "--rate", "20")
    project.ok("replay", "lab", "--from", "tidy")
    project.ok("dlq", "rm", "lab", "--error", "*small", "--yes")
    project.ok("purge", "lab.tidy", "--yes")

    records = audit(project)

    assert [(each["action"], each["selection"], each["n"]) for each in reversed(records)] == [
        ("pause", "store", 0),
        ("pause", "--key 'n=it'\"'\"'s'", 0),
        ("resume", "", 0),
        ("edit", "--stage tidy --limit 1 --rate 20 --set n", 1),
        ("replay", "--from tidy", 2),
        ("remove", "--error '*small'", 2),
        ("purge", "tidy", 3),
    ]
    assert {each["actor"] for each in records} == {f"{getpass.getuser()}@{socket.gethostname()}"}
    assert {each["result"] for each in records} == {"done"}
    shown = project.ok("audit", "lab", "-n", "1").stdout.splitlines()
    assert [line.split()[2:] for line in shown[1:]] == [["purge", "tidy", "3", "done"]]


def test_what_only_reads_or_is_not_confirmed_is_not_listed(project: Project) -> None:
    assert project.run("run", "lab", "-q").wait() == 3
    project.ok("dlq", "retry", "lab", "--dry-run")
    project.ok("dlq", "rm", "lab")
    project.ok("purge", "lab", "--dry-run")
    project.ok("status", "lab")

    assert audit(project) == []


def test_an_import_is_listed_with_its_file(project: Project) -> None:
    assert project.run("run", "lab", "-q").wait() == 3
    (project.folder / "letters.ndjson").write_text(project.ok("dlq", "export", "lab").stdout)
    project.ok("dlq", "import", "lab", "letters.ndjson", "--retry")

    assert [(each["action"], each["selection"], each["n"]) for each in audit(project)] == [
        ("import", "letters.ndjson --retry", 3)
    ]
