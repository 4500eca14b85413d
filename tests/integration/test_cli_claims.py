"""Large bodies for a user: on the command line, with real workers that are killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.body_stores import AnyStore, FolderStore
from tests.integration.project import Project
from tests.redis_server import RedisServer

LAB = """
from __future__ import annotations
from collections.abc import Iterator
from pathlib import Path
from pydantic import BaseModel
from flowq import Pipeline, Reject, source, stage
from tests.faults.failpoints import arm

arm()

class Page(BaseModel):
    n: int
    html: str = ""

@source
def pages(count: int = 20) -> Iterator[Page]:
    yield from (Page(n=n, html="x" * 200_000) for n in range(count))

@stage(claim_above=50_000, concurrency=4)
async def parse(page: Page) -> Page:
    if page.n < 0:
        raise Reject("negative")
    return page

@stage(claim_above=50_000)
async def store(page: Page) -> None:
    with Path("stored").open("a") as file:
        file.write(f"{page.n} {len(page.html)}\\n")

lab = Pipeline("lab", pages >> parse >> store)
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer("bundled") as server:
        yield server


pytestmark = pytest.mark.project({"lab": LAB}, FLOWQ_LEASE="2s", COLUMNS="120")


@pytest.fixture(autouse=True)
def variables(project: Project, server: RedisServer, body_store: AnyStore) -> None:
    project.variables |= {"FLOWQ_REDIS_URL": server.url, "FLOWQ_CLAIM_STORE": body_store.location}


@pytest.mark.parametrize("point", ["before settle", "before publish"])
def test_a_worker_killed_beside_its_commit_loses_nothing_and_leaves_only_what_gc_finds(
    point: str, tmp_path: Path, project: Project, body_store: AnyStore
) -> None:
    died = tmp_path / "died"
    done = project.ok("run", "lab", "--json", FAILPOINT=point, FAILPOINT_FILE=str(died))
    assert died.exists(), "this point was not reached"
    stored = sorted((tmp_path / "stored").read_text().split("\n"))[1:]
    assert {int(line.split()[0]) for line in stored} == set(range(20))
    assert done.summary["stages"]["store"]["ok"] == 20

    body_store.age()
    (left,) = [*json.loads(project.run("gc", "lab", "--json").stdout), {}][:1]
    n_written = 40 + left.get("files", 0)  # each message once at each of two stages, and the orphans
    assert len(body_store.paths()) == n_written
    if left:
        project.ok("gc", "lab", "--yes")
        assert len(body_store.paths()) == 40  # released, and not yet for a minute


def test_gc_lists_and_removes_bodies_without_messages(project: Project, tmp_path: Path, body_store: AnyStore) -> None:
    project.ok("push", "lab", json.dumps({"n": 1, "html": "y" * 60_000}))
    project.ok("push", "lab", json.dumps({"n": 2, "html": "y" * 60_000}), "--delay", "1d")
    project.ok("purge", "lab.parse", "--yes")
    project.ok("push", "lab", json.dumps({"n": 3, "html": "y" * 60_000}))

    young = project.ok("gc", "lab")
    assert young.stdout == "lab has no edges left over\n"
    body_store.age()
    listed = project.ok("gc", "lab")
    where = f"{body_store.location}/flowq/lab"
    assert f"2 large bodies of 120 kB in {where} that no message refers to\n" in listed.stdout
    assert len(body_store.paths()) == 3

    removed = project.ok("gc", "lab", "--yes")
    assert removed.stdout.splitlines()[-1] == "removed 2 large bodies of 120 kB"
    assert len(body_store.paths()) == 1
    project.ok("run", "lab", "--stage", "parse,store", "--drain")
    assert (tmp_path / "stored").read_text() == "3 60000\n"


def test_gc_finds_what_a_writer_left_that_was_killed_while_writing_a_file(project: Project, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "half-written")
    project.ok("push", "lab", json.dumps({"n": 1, "html": "y" * 60_000}), **at(store))
    (path,) = store.paths()
    store.write(f"{path}#1", b"half")
    store.age()
    assert project.run("gc", "lab", "--yes", **at(store)).stdout.endswith("removed 1 large body of 4 B\n")
    assert store.paths() == [path]


def at(store: FolderStore) -> dict[str, str]:
    return {"FLOWQ_CLAIM_STORE": store.location}


def test_bodies_are_shown_exported_and_imported_as_they_are(project: Project, tmp_path: Path) -> None:
    body = {"n": -1, "html": "z" * 60_000}
    project.ok("push", "lab", json.dumps(body))
    (peeked,) = project.run("peek", "lab", "--json").stdout.splitlines()
    assert json.loads(peeked)["message"] == body

    assert project.run("run", "lab", "--stage", "parse", "--drain").wait() == 3
    exported = project.ok("dlq", "export", "lab")
    assert json.loads(exported.stdout)["message"] == body
    shown = project.run("dlq", "show", "lab", "1")
    assert "zzzz" in shown.stdout

    (tmp_path / "letters").write_text(exported.stdout)
    project.ok("dlq", "rm", "lab", "--yes")
    project.ok("dlq", "import", "lab", "letters", "--restore")
    assert json.loads(project.run("dlq", "export", "lab").stdout)["message"] == body


def test_where_the_store_is_not_known_references_are_shown_and_nothing_crashes(project: Project) -> None:
    body = {"n": -1, "html": "z" * 60_000}
    project.ok("push", "lab", json.dumps(body))
    del project.variables["FLOWQ_CLAIM_STORE"]

    peeked = project.ok("peek", "lab", "--json")
    assert json.loads(peeked.stdout)["body_in_claim_store"].endswith(" 60018")
    assert "60018" in project.run("peek", "lab").stdout
    pushed = project.run("push", "lab", json.dumps(body))
    assert pushed.wait() == 2
    assert "error[FQ210]" in pushed.stderr
    ran = project.run("run", "lab", "--stage", "parse", "--drain")
    assert ran.wait() == 2
    assert "error[FQ210]: parse has claim_above=50000, but there is no store for large bodies" in ran.stderr
    assert "pipelines/lab.py:" in ran.stderr
    assert "FLOWQ_CLAIM_STORE" in ran.stderr


def test_a_run_checks_the_server_before_the_store(project: Project, server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-xclaim")
    del project.variables["FLOWQ_CLAIM_STORE"]

    url = server.url.replace("unix://", "unix://worker:secret@")
    forbidden, permitted = (project.run("run", "lab", FLOWQ_REDIS_URL=each) for each in (url, server.url))

    assert (forbidden.wait(), permitted.wait()) == (4, 2)
    assert "XCLAIM" in forbidden.stderr
    assert "FQ210" not in forbidden.stderr
    assert "FQ210" in permitted.stderr


def test_a_run_and_doctor_say_when_the_store_cannot_be_written(project: Project, body_store: AnyStore) -> None:
    body_store.vanish()
    doctor = project.run("doctor")
    assert doctor.wait() == 1
    assert "warning[FQ421]" in doctor.stderr
    run = project.ok("run", "lab", "--stage", "store", "--drain")
    assert "warning[FQ421]" in run.stderr


def test_with_flowqs_own_redis_nothing_has_to_be_set(project: Project, tmp_path: Path) -> None:
    project.variables.clear()
    project.ok("run", "lab", "-a", "count=3")
    assert len(list((tmp_path / ".flowq" / "claims" / "flowq" / "lab").glob("*/*"))) == 6
    project.ok("run", "lab", "--memory", "-a", "count=2")
    assert sorted((tmp_path / "stored").read_text().split("\n")) == sorted(
        ["", *(f"{n} 200000" for n in (0, 0, 1, 1, 2))]
    )


def test_the_json_of_the_graph_and_the_settings_name_it(project: Project) -> None:
    stages = {
        each["name"]: each for each in json.loads(project.run("graph", "lab", "--format", "json").stdout)["stages"]
    }
    assert (stages["parse"]["claim_above"], stages["pages"]["claim_above"]) == (50_000, None)
    settings = {each["name"]: each for each in json.loads(project.run("config", "lab", "--json").stdout)}
    assert settings["claim_store"]["origin"] == "env FLOWQ_CLAIM_STORE"
    assert settings["parse.claim_above"]["value"] == "50,000"
