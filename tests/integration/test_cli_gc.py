"""`flowq gc`: leftovers of a renamed stage are shown, kept, and removed only on request."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from tests.integration.flowq_process import wait_until
from tests.integration.project import Project

BEFORE = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, stage

class Item(BaseModel):
    n: int

@stage
async def parse(item: Item) -> Item: return item

@stage
async def store(item: Item) -> None: ...

lab = Pipeline("lab", parse >> store)
"""
AFTER = BEFORE.replace("parse", "tidy")  # another length: Python goes by time and size


pytestmark = pytest.mark.project({"lab": BEFORE}, redis="debian", COLUMNS="100")


@pytest.fixture(autouse=True)
def a_stage_was_renamed_while_two_messages_were_waiting_for_it(project: Project) -> None:
    assert project.flowq("run", "lab", "--drain").returncode == 0
    for n in (1, 2):
        assert project.flowq("push", "lab", f'{{"n": {n}}}').returncode == 0
    project.write("lab", AFTER)


@pytest.fixture
def waiting(project: Project) -> Iterator[redis.Redis]:
    """The server itself, to see what is really there."""
    with redis.Redis.from_url(project.variables["FLOWQ_REDIS_URL"]) as client:
        yield client


def test_status_shows_what_lies_on_an_edge_that_is_gone(project: Project) -> None:
    done = project.ok("status", "lab")
    left = " no longer in the code: 2 messages on >parse  (flowq plan lab shows where they can go)"
    assert left in done.stdout.splitlines()
    assert json.loads(project.run("status", "lab", "--json").stdout)["orphans"] == {">parse": 2}


def test_a_run_says_so_and_leaves_it(project: Project, waiting: redis.Redis, unique_namespace: str) -> None:
    done = project.ok("run", "lab", "--drain")
    assert "no longer in the code: 2 messages on >parse  (flowq plan lab shows where they can go)" in done.stderr
    assert waiting.xlen(f"{unique_namespace}:{{lab}}:edge:>parse") == 2


def test_off_a_terminal_without_yes_it_lists(project: Project, waiting: redis.Redis, unique_namespace: str) -> None:
    done = project.ok("gc", "lab")
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        [">parse", "2", "Item"],
        ["parse>store", "0", "Item"],
    ]
    assert "nothing was removed" in done.stderr
    assert waiting.xlen(f"{unique_namespace}:{{lab}}:edge:>parse") == 2


def test_yes_removes_everything_that_is_left_over_and_nothing_else(
    project: Project, waiting: redis.Redis, unique_namespace: str
) -> None:
    project.ok("push", "lab", '{"n": 3}')

    done = project.ok("gc", "lab", "--yes")
    assert done.stdout.splitlines()[-1] == "removed 2 edges with 2 messages"
    left = {key.decode() for key in waiting.keys(f"{unique_namespace}:*") if b"parse" in key}  # type: ignore[union-attr]
    assert left == set()
    assert waiting.xlen(f"{unique_namespace}:{{lab}}:edge:>tidy") == 1
    assert project.run("gc", "lab").stdout == "lab has no edges left over\n"


def test_as_json_it_tells_what_it_removed(project: Project) -> None:
    listed = json.loads(project.run("gc", "lab", "--json").stdout)
    removed = json.loads(project.run("gc", "lab", "--json", "--yes").stdout)

    assert listed[0] == {"edge": ">parse", "messages": 2, "removed": False}
    assert removed[0] == {"edge": ">parse", "messages": 2, "removed": True}


@pytest.mark.parametrize(("answer", "left"), [("yes", 2), ("lab", 0)])
def test_on_a_terminal_the_name_must_be_typed(
    answer: str, left: int, project: Project, waiting: redis.Redis, unique_namespace: str
) -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "flowq", "gc", "lab"],
        cwd=project.folder,
        env=project.environ,
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as asked:
        os.write(terminal, f"{answer}\n".encode())
        asked.communicate(timeout=120)
    os.close(terminal)
    os.close(end)

    assert asked.returncode == 0
    assert waiting.xlen(f"{unique_namespace}:{{lab}}:edge:>parse") == left


def test_an_edge_that_a_live_worker_of_the_old_version_serves_is_kept(
    project: Project, waiting: redis.Redis, unique_namespace: str
) -> None:
    edge = f"{unique_namespace}:{{lab}}:edge:>parse"
    project.write("lab", BEFORE)
    old = project.start("run", "lab", "--forever")
    old.wait_for(lambda: waiting.xlen(edge) == 0)
    project.write("lab", AFTER)

    refused = project.run("gc", "lab", "--yes")

    assert refused.wait() == 2
    assert "still served by worker" in refused.stderr
    assert waiting.exists(edge)

    old.popen.send_signal(signal.SIGTERM)
    assert old.wait() == 0
    project.ok("gc", "lab", "--yes")
    wait_until(lambda: not waiting.exists(edge))
