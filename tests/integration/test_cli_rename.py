"""A stage is renamed, split or removed while messages wait: balances add up at each step, nothing is doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import redis

from tests.conftest import Servers
from tests.integration.project import Project

# Of ten numbers one dies, one is retried in an hour, one holds its host for an hour, and the next of that host queues.
BEFORE = """
from __future__ import annotations
from collections.abc import Iterator
from pathlib import Path
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, RetryLater, source, stage

class Item(BaseModel):
    n: int
    host: str = ""

BROKEN = True

@source
def numbers() -> Iterator[Item]:
    for n in range(40):
        yield Item(n=n, host="slow" if n % 10 in (3, 4) else "fast")

@stage(concurrency=1, rate=Rate(10_000, by="host", concurrency=1))
async def parse(item: Item) -> Item:
    if BROKEN and item.n % 10 == 1:
        raise Reject("one")
    if BROKEN and item.n % 10 == 2:
        raise RetryLater("two", after="1h")
    if BROKEN and item.n % 10 == 3:
        raise RetryLater("three", after="1h", hold="host")
    return item

@stage
async def store(item: Item) -> None:
    with Path("stored").open("a") as file:
        file.write(f"{item.n}\\n")

lab = Pipeline("lab", numbers >> parse >> store)
"""
RENAMED = BEFORE.replace("parse", "extract").replace("BROKEN = True", "BROKEN = False")
# Handlers without delays, and other shapes of the same pipeline.
PLAIN = BEFORE.replace("BROKEN = True", "BROKEN = False")
TIDY = """
@stage
async def tidy(item: Item) -> Item:
    return item

lab ="""
SPLIT = PLAIN.replace("lab =", TIDY).replace("parse >> store", "parse >> tidy >> store")
WITHOUT_SOURCE = PLAIN.replace("numbers >> parse >> store", "parse >> store")
MERGED = PLAIN.replace("lab =", TIDY).replace("numbers >> parse >> store", "numbers >> tidy >> store, parse >> store")
N = 40
DEAD, DELAYED = 4, 12  # one of ten is dead; one retried, one held, one queued

pytestmark = pytest.mark.project({"lab": BEFORE}, redis="debian", COLUMNS="160")


@pytest.fixture
def server(redis_server: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server("debian").url) as client:
        yield client


def status(project: Project) -> dict[str, Any]:
    """The status of all stages, each of which must add up."""
    found: dict[str, Any] = json.loads(project.ok("status", "lab", "--json").stdout)
    for name, stage in found["stages"].items():
        if name != "numbers":
            assert adds_up(stage), (name, stage)
    return found


def adds_up(stage: Mapping[str, int]) -> bool:
    settled = stage["ok"] + stage["filtered"] + stage["dead"] + stage["purged"]
    return stage["in"] == settled + stage["waiting"] + stage["delayed"] + stage["running"]


def run(project: Project, *arguments: str) -> dict[str, Any]:
    """Run the pipeline, and let no stage report a balance that does not add up."""
    done = project.run("run", "lab", "--json", *arguments)
    assert done.wait() in (0, 3, 5), done.stderr
    assert all(adds_up(stage) for name, stage in done.summary["stages"].items() if name != "numbers"), done.summary
    return done.summary


def stored(project: Project) -> Counter[int]:
    file = project.folder / "stored"
    return Counter(map(int, file.read_text().split())) if file.exists() else Counter()


def run_until(project: Project, stages: str, condition: Callable[[Any], bool]) -> None:
    started = project.start("run", "lab", "--stage", stages, "--forever")
    started.wait_for(lambda: condition(status(project)["stages"]))
    started.popen.terminate()
    started.wait()


def left_behind(project: Project) -> None:
    """Run the version of before until messages wait for both stages, delayed, held, queued, and dead."""
    project.write("lab", BEFORE)
    run_until(
        project,
        "numbers,parse",
        lambda stages: stages["parse"]["delayed"] == DELAYED and not stages["parse"]["waiting"],
    )
    assert [status(project)["stages"]["parse"][where] for where in ("dead", "delayed")] == [DEAD, DELAYED]
    project.ok("push", "lab.parse", '{"n": 40}')
    state = status(project)["stages"]
    assert (state["parse"]["waiting"], state["store"]["waiting"]) == (1, N - DEAD - DELAYED)


def test_a_stage_is_renamed_while_messages_wait_are_delayed_held_and_dead(
    project: Project, server: redis.Redis, unique_namespace: str
) -> None:
    left_behind(project)
    project.write("lab", RENAMED)
    left = (
        "no longer in the code: 1 message on >parse, 12 messages on numbers>parse, 24 messages on parse>store, "
        "4 dead letters of parse  (flowq plan lab shows where they can go)"
    )

    assert f" {left}" in project.ok("status", "lab").stdout.splitlines()
    assert status(project)["orphans"] == {">parse": 1, "numbers>parse": DELAYED, "parse>store": N - DEAD - DELAYED}
    assert status(project)["orphan_dead_letters"] == {"parse": DEAD}

    early = project.run("run", "lab")  # before `apply`: it resumes, and leaves what is not in its code alone
    assert (early.wait(), stored(project)) == (0, Counter())
    assert left in early.stderr
    assert "does not add up" not in early.stderr + early.stdout
    project.ok("push", "lab.extract", '{"n": 41}')
    run(project, "--drain")
    assert stored(project) == {41: 1}
    assert status(project)["left"] == 0

    project.ok("apply", "lab", "--move", "parse=extract")
    found = status(project)
    assert (found["orphans"], found["orphan_dead_letters"]) == ({}, {})
    assert [found["stages"]["extract"][where] for where in ("waiting", "delayed", "dead")] == [1, DELAYED, DEAD]
    assert found["held"][0]["key"] == "slow"
    assert not [key for key in server.keys(f"{unique_namespace}:*") if b"parse" in key]  # type: ignore[union-attr]

    project.ok("dlq", "retry", "lab")
    status(project)
    project.ok("resume", "lab.extract", "--key", "host=slow")
    make_due(server, f"{unique_namespace}:{{lab}}:delayed:numbers>extract")
    end = run(project, "--drain", "-x", "numbers")
    assert end["drained"]
    assert status(project)["stages"]["extract"]["in"] == N + 2
    assert stored(project) == Counter(range(N + 2))


@pytest.mark.parametrize(
    ("before", "after", "runs", "left"),
    [
        pytest.param(PLAIN, SPLIT, "numbers,parse", {"parse>store": N}, id="a stage comes between"),
        pytest.param(SPLIT, PLAIN, "numbers,parse,tidy", {"tidy>store": N}, id="a stage is gone"),
        pytest.param(PLAIN, WITHOUT_SOURCE, "numbers", {"numbers>parse": N}, id="the source is gone"),
        pytest.param(MERGED, PLAIN, "numbers,tidy", {"tidy>store": N}, id="two stages become one"),
    ],
)
def test_messages_of_a_stage_that_is_still_there_are_moved_to_its_inlet(
    before: str, after: str, runs: str, left: dict[str, int], project: Project
) -> None:
    (edge,) = left
    target = edge.partition(">")[2]
    project.write("lab", before)
    run_until(project, runs, lambda stages: stages[target]["waiting"] == N)
    project.write("lab", after)

    assert status(project)["orphans"] == left
    run(project, "--for", "1s")
    assert status(project)["orphans"] == left

    assert f"goes to >{target}" in project.ok("plan", "lab").stdout
    assert f"moved {N} messages from {edge} to >{target}" in project.ok("apply", "lab").stdout
    assert status(project)["orphans"] == {}
    run(project, "--drain")
    assert status(project)["left"] == 0
    assert stored(project) == Counter(range(N))


def test_messages_that_are_removed_with_their_edge_count_as_purged(project: Project) -> None:
    project.write("lab", PLAIN)
    run_until(project, "numbers,parse", lambda stages: stages["store"]["waiting"] == N)
    project.write("lab", SPLIT)

    project.ok("gc", "lab", "--yes")

    assert status(project)["stages"]["store"]["purged"] == N
    project.write("lab", PLAIN)
    assert status(project)["stages"]["store"]["purged"] == N


def test_a_fresh_run_counts_what_an_earlier_version_has_left(project: Project) -> None:
    project.write("lab", PLAIN)
    run_until(project, "numbers,parse", lambda stages: stages["store"]["waiting"] == N)
    project.write("lab", SPLIT)

    run(project, "--fresh")
    assert stored(project) == Counter(range(N))
    assert status(project)["orphans"] == {"parse>store": N}
    project.ok("apply", "lab")
    status(project)
    run(project, "--drain")
    assert stored(project) == Counter([*range(N), *range(N)])  # --fresh runs the source again, and removes nothing here


def make_due(server: redis.Redis, key: str) -> None:
    """The hour of delayed messages has passed."""
    for name in server.zrange(key, 0, -1):  # type: ignore[union-attr]
        server.zadd(key, {name: 1}, xx=True)
