"""`flowq pause` and `flowq resume`: seen by running workers, by those that start later, and on every screen."""

from __future__ import annotations

import json

import pytest

from tests.integration.project import Project

LAB = """
from __future__ import annotations
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Pipeline, Rate, source, stage

class Item(BaseModel):
    n: int

@source
def items() -> Iterator[Item]:
    yield from (Item(n=n) for n in range(5))

@stage(rate=Rate(1000, by="n"))
async def tidy(item: Item) -> Item: return item

@stage
async def store(item: Item) -> None: ...

lab = Pipeline("lab", items >> tidy >> store)
"""


pytestmark = pytest.mark.project({"lab": LAB}, redis="debian", COLUMNS="100")


def test_a_run_of_a_paused_stage_says_so_waits_and_ends_after_resume(project: Project) -> None:
    assert project.run("pause", "lab.store").stdout == "lab.store is paused  (flowq resume lab.store)\n"
    running = project.start("run", "lab", "-w", "2")

    running.wait_for(lambda: "store is paused  (flowq resume lab.store)" in running.stderr)
    running.wait_for(lambda: status(project)["stages"]["store"]["waiting"] == 5)
    assert list(status(project)["paused"]) == ["store"]
    shown = project.run("status", "lab").stdout
    assert " store is paused  (flowq resume lab.store)" in shown.splitlines()

    assert project.run("resume", "lab").stdout == "lab is resumed\n"
    assert running.wait() == 0, running.stderr
    assert "nothing is paused now" in running.stderr
    assert status(project)["stages"]["store"]["ok"] == 5


def test_the_whole_pipeline_is_paused_until_all_of_it_is_resumed(project: Project) -> None:
    assert project.run("pause", "lab").stdout == "lab is paused  (flowq resume lab)\n"
    assert project.run("pause", "lab").stdout == "lab was already paused  (flowq resume lab)\n"
    assert status(project)["state"] == "paused"
    assert project.run("run", "lab", "--for", "300ms").wait() == 5

    assert project.run("resume", "lab.store").stdout == "all of lab is still paused  (flowq resume lab)\n"
    assert status(project)["left"] == 0

    project.ok("resume", "lab")
    assert project.run("resume", "lab").stdout == "lab was not paused\n"
    project.ok("run", "lab")
    assert status(project)["stages"]["store"]["ok"] == 5


def test_one_key_is_paused_while_all_others_continue(project: Project) -> None:
    assert project.run("pause", "lab", "--key", "n=3").stdout == (
        "n=3 is paused in tidy  (flowq resume lab --key n=3)\n"
    )
    running = project.start("run", "lab")
    running.wait_for(lambda: status(project)["stages"]["store"]["ok"] == 4)

    assert status(project)["left"] == 1
    assert project.run("resume", "lab", "--key", "n=3").stdout == "n=3 is resumed in tidy\n"
    assert running.wait() == 0
    assert status(project)["stages"]["store"]["ok"] == 5
    assert project.run("resume", "lab.tidy", "--key", "n=3").stdout == "n=3 was not paused\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lab", "--key", "host=a"], 'error[FQ200]: no stage of lab is paced by "host" paced are: tidy by n'),
        (["lab.store", "--key", "n=3"], 'error[FQ200]: store is not paced by "n" '),
        (["lab", "--key", "n"], "error[FQ200]: --key n is not FIELD=VALUE"),
    ],
)
def test_a_key_that_paces_no_stage_is_one_clear_line(project: Project, arguments: list[str], line: str) -> None:
    done = project.run("pause", *arguments)

    assert done.wait() == 2
    assert " ".join(done.stderr.split()).startswith(line)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize("target", ["lba", "lab.stroe"])
def test_a_name_that_is_wrong_is_one_clear_line(project: Project, command: str, target: str) -> None:
    done = project.run(command, target)

    assert (done.wait(), done.stdout) == (2, "")
    assert done.stderr.startswith("error[FQ201]: ")
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_the_help_has_an_example(project: Project, command: str) -> None:
    assert f"  flowq {command} scrape\n" in project.run(command, "--help").stdout


def status(project: Project) -> dict[str, dict[str, dict[str, int]]]:
    """The state as a program sees it."""
    found: dict[str, dict[str, dict[str, int]]] = json.loads(project.run("status", "lab", "--json").stdout)
    return found
