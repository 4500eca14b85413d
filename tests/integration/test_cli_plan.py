"""`flowq plan` and `flowq apply`: what a new version changes is shown with numbers, and carried out once."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.conftest import Servers
from tests.integration.project import Project

BEFORE = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, Reject, stage

class Item(BaseModel):
    n: int

@stage(dedup="n")
async def parse(item: Item) -> Item:
    if item.n % 10 == 9:
        raise Reject("nine")
    return item

@stage
async def store(item: Item) -> None: ...

lab = Pipeline("lab", parse >> store)
"""
RENAMED = BEFORE.replace("parse", "extract")
STRICTER = BEFORE.replace("    n: int\n", "    n: int\n    title: str\n")
REMEMBERING = BEFORE.replace("import Pipeline", "import Dedup, Pipeline").replace(
    'dedup="n"', 'dedup=Dedup("n", scope="forever", ttl="1d")'
)
READING = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, stage
from flowq.sources import ndjson

class Item(BaseModel):
    n: int

lines = ndjson(Item, "items.ndjson", name="lines")

@stage
async def store(item: Item) -> None: ...

lab = Pipeline("lab", lines >> store)
"""
ENDLESS = READING.replace(
    'lines = ndjson(Item, "items.ndjson", name="lines")',
    """
import asyncio
from collections.abc import AsyncIterator
from flowq import source

@source
async def lines() -> AsyncIterator[Item]:
    yield Item(n=1)
    await asyncio.sleep(60)
""",
)
SHORTER = BEFORE.replace("parse >> store", "store")


pytestmark = pytest.mark.project({"lab": BEFORE}, redis="debian", COLUMNS="110")


@pytest.fixture
def server(redis_server: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server("debian").url) as client:
        yield client


def fill(project: Project, first: int, last: int) -> None:
    lines = "\n".join(f'{{"n": {n}}}' for n in range(first, last))
    (project.folder / "items.ndjson").write_text(lines)
    project.ok("push", "lab.parse", "@items.ndjson")


def as_json(project: Project, *arguments: str) -> Any:
    done = project.ok(*arguments, "--json")
    return json.loads(done.stdout)


def stages(project: Project) -> Any:
    return as_json(project, "status", "lab")["stages"]


def test_what_a_renamed_stage_had_goes_to_its_new_name_and_nothing_is_lost_or_done_twice(
    project: Project, server: redis.Redis, unique_namespace: str
) -> None:
    fill(project, 0, 20)
    assert project.run("run", "lab", "--drain").wait() == 3  # two dead letters
    fill(project, 20, 1220)
    project.write("lab", RENAMED)

    shown = project.run("plan", "lab")
    assert "- >parse 1,200 no longer in the code" in [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "extract accepts what parse accepted: renamed?  flowq plan lab --move parse=extract" in shown.stdout
    assert project.run("plan", "lab", "--move", "parse=extract", "--exit-code").wait() == 1

    applied = project.ok("apply", "lab", "--move", "parse=extract")
    assert "moved 1,200 messages from >parse to >extract" in applied.stdout
    state = stages(project)["extract"]
    assert (state["in"], state["ok"], state["dead"], state["waiting"], state["dead_letters"]) == (1220, 18, 2, 1200, 2)
    assert not [key for key in server.keys(f"{unique_namespace}:*") if b"parse" in key]  # type: ignore[union-attr]

    again = project.run("apply", "lab", "--move", "parse=extract")
    assert (again.wait(), again.stdout) == (0, "lab is up to date\n")
    project.ok("plan", "lab", "--exit-code")

    assert project.run("run", "lab", "--drain").wait() == 3
    state = stages(project)
    assert (state["extract"]["in"], state["extract"]["ok"], state["extract"]["dead"]) == (1220, 1098, 122)
    assert state["store"]["ok"] == 1098
    project.run("push", "lab.extract", '{"n": 5}')  # was seen under the old name
    assert stages(project)["extract"]["duplicates"] == 1


def test_what_a_renamed_stage_has_seen_is_not_taken_again_though_it_is_remembered_for_a_while(project: Project) -> None:
    project.write("lab", REMEMBERING)
    fill(project, 0, 5)
    project.ok("run", "lab", "--drain")
    project.write("lab", REMEMBERING.replace("parse", "extract"))

    project.ok("apply", "lab", "--move", "parse=extract")

    project.run("push", "lab.extract", '{"n": 3}')
    project.run("push", "lab.extract", '{"n": 8}')
    state = stages(project)["extract"]
    assert (state["duplicates"], state["waiting"]) == (1, 1)


@pytest.mark.parametrize("arguments", [[], ["-a", "files=items.ndjson"]], ids=["as written", "as told"])
def test_a_renamed_source_resumes_where_it_was(project: Project, arguments: list[str]) -> None:
    items = project.folder / "items.ndjson"
    items.write_text("".join(f'{{"n": {n}}}\n' for n in range(20)))
    project.write("lab", READING)
    project.ok("run", "lab", *arguments)
    with items.open("a") as file:
        file.write("".join(f'{{"n": {n}}}\n' for n in range(5)))
    project.write("lab", READING.replace("lines", "rows"))

    shown = project.run("plan", "lab").stdout
    assert "rows starts over, unless it is lines renamed:  flowq plan lab --move lines=rows" in shown
    project.ok("apply", "lab", "--move", "lines=rows")

    run = project.ok("run", "lab", "--json", *arguments)
    assert run.summary["stages"]["store"]["in"] == 5


def test_nothing_is_moved_while_a_worker_of_the_earlier_version_is_alive(project: Project) -> None:
    old = project.start("run", "lab", "--forever")
    old.wait_for(lambda: len(as_json(project, "status", "lab")["workers"]) == 1)
    project.write("lab", RENAMED)

    refused = project.run("apply", "lab", "--move", "parse=extract")

    assert refused.wait() == 2
    assert "is still served by worker" in refused.stderr
    old.popen.send_signal(signal.SIGTERM)
    assert old.wait() == 0
    project.ok("apply", "lab", "--move", "parse=extract")


def test_a_source_is_not_renamed_while_a_worker_runs_it(project: Project) -> None:
    project.write("lab", ENDLESS)
    old = project.start("run", "lab", "--stage", "lines", "--forever")
    old.wait_for(lambda: stages(project)["store"]["waiting"] == 1)
    project.write("lab", ENDLESS.replace("lines", "rows"))

    refused = project.run("apply", "lab", "--move", "lines=rows")

    assert refused.wait() == 2
    assert "lines>store is still served by worker" in refused.stderr
    old.popen.send_signal(signal.SIGTERM)
    assert old.wait() == 0
    applied = project.run("apply", "lab", "--move", "lines=rows")
    assert (applied.wait(), "moved 1 message from lines>store to rows>store" in applied.stdout) == (0, True)


def test_messages_that_do_not_fit_a_new_schema_are_counted_by_validating_them(project: Project) -> None:
    project.ok("run", "lab", "--drain")
    fill(project, 0, 30)
    project.write("lab", STRICTER)
    project.ok("push", "lab.parse", '{"n": 100, "title": "fits"}')

    (change,) = [change for change in as_json(project, "plan", "lab")["changes"] if change["messages"]]
    assert change == {
        "kind": "schema", "edge": ">parse", "messages": 31, "to": "",
        "fit": {"looked_at": 31, "misfits": 30, "reason": "title: Field required"},
    }  # fmt: skip
    sampled = project.run("plan", "lab", "--sample", "10").stdout
    assert "another schema: 10 of 10 looked at do not fit" in sampled
    assert "10 do not fit and will become dead letters. The first: title: Field required" in sampled

    refused = project.run("apply", "lab")
    assert refused.wait() == 2
    assert "error[FQ219]: 30 messages no longer fit the code; nothing was changed" in refused.stderr
    assert len(as_json(project, "plan", "lab")["changes"]) > 0
    project.ok("apply", "lab", "--yes")
    assert as_json(project, "plan", "lab")["changes"] == []


def test_an_edge_that_is_gone_keeps_its_messages_until_they_are_moved(project: Project) -> None:
    project.ok("run", "lab", "--drain")
    fill(project, 0, 3)
    project.write("lab", SHORTER)

    assert "3 would be left behind: --move OLD=NEW, or remove them:  flowq gc lab" in project.run("plan", "lab").stdout
    assert "left 3 on >parse" in project.run("apply", "lab").stdout
    changes = as_json(project, "plan", "lab")["changes"]
    assert [(change["kind"], change["edge"], change["messages"]) for change in changes] == [("left", ">parse", 3)]


def test_a_source_takes_the_place_of_a_source_alone(project: Project) -> None:
    project.write("lab", READING)
    (project.folder / "items.ndjson").write_text("")
    project.ok("run", "lab")
    project.write("lab", READING.replace("lines", "rows").replace("store", "keep"))

    to_stage = project.run("apply", "lab", "--move", "lines=keep").stderr
    to_source = project.run("apply", "lab", "--move", "store=rows").stderr

    assert to_stage.startswith('error[FQ200]: --move lines=keep: "lines" was a source, but "keep" is not')
    assert to_source.startswith('error[FQ200]: --move store=rows: "rows" is a source and accepts no messages')


def test_a_pipeline_that_never_ran_has_nothing_to_compare(project: Project) -> None:
    assert project.run("plan", "lab").stdout == "lab has not run here yet: there is nothing to compare with\n"


@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lab", "--move", "parse"], "error[FQ200]: --move parse is not OLD=NEW"),
        (["lab", "--move", "parse=extract"], 'error[FQ200]: --move parse=extract: "parse" is still in the code'),
        (["lab", "--move", "old=extarct"], 'error[FQ201]: pipeline "lab" has no stage "extarct"'),
        (["lba"], 'error[FQ201]: no pipeline "lba"'),
    ],
)
def test_wrong_input_is_one_clear_line(project: Project, command: str, arguments: list[str], line: str) -> None:
    done = project.run(command, *arguments)

    assert (done.wait(), done.stdout) == (2, "")
    assert done.stderr.startswith(line)


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_the_help_has_an_example(project: Project, command: str) -> None:
    assert f"  flowq {command} scrape" in project.run(command, "--help").stdout
