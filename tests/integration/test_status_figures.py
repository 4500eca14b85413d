"""During a run, the figures of `flowq status --json` match what handlers recorded and what Redis reports."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import flowq
from flowq.broker.keys import GROUP, Keys
from tests.integration.flowq_process import FlowqProcess, wait_until
from tests.integration.project import Project

WORKERS, SLOTS, MAXSIZE, N = 2, 3, 20, 40
FIGURES = f"""
    from __future__ import annotations

    import time
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Pipeline, source, stage

    HERE = Path(__file__).parents[1]


    def wait_for(name: str) -> None:
        while not (HERE / name).exists():
            time.sleep(0.01)


    @source
    def numbers() -> Iterator[int]:
        yield from range({N})
        wait_for("end")


    @stage(concurrency={SLOTS}, maxsize={MAXSIZE})
    def work(n: int) -> int:
        with (HERE / "begun").open("a") as file:
            file.write(f"{{n}}\\n")
        wait_for("go")
        return n


    @stage(concurrency=2, batch=5)
    def keep(numbers: list[int]) -> None: ...


    figures = Pipeline("figures", numbers >> work >> keep)
"""
EDGE = "numbers>work"

pytestmark = pytest.mark.project({"figures": FIGURES}, redis="debian", COLUMNS="120")


@pytest.fixture
def client(project: Project) -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(project.variables["FLOWQ_REDIS_URL"], decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def running(project: Project) -> FlowqProcess:
    """A run whose handlers all wait, and whose source has filled the edge."""
    process = project.start("run", "figures", "--workers", str(WORKERS))
    wait_until(lambda: len(begun(project)) == WORKERS * SLOTS)
    wait_until(lambda: status(project)["edges"][EDGE]["fill"] >= 1)
    return process


def begun(project: Project) -> list[str]:
    """The messages on which handlers have started, read from the file that the handlers write."""
    file = project.folder / "begun"
    return file.read_text().split() if file.exists() else []


def status(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.ok("status", "figures", "--json").stdout)
    return found


def server_ms(client: redis.Redis) -> int:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.mark.usefixtures("running")
def test_what_is_in_handlers_is_what_they_have_begun(project: Project, client: redis.Redis) -> None:
    wait_until(lambda: status(project)["stages"]["work"]["in_handler"] == WORKERS * SLOTS)
    stream = Keys(project.variables["FLOWQ_NAMESPACE"], "figures").edge(EDGE)
    before_ms = server_ms(client)
    seen = status(project)
    after_ms = server_ms(client)
    pending: dict[str, Any] = client.xpending(stream, GROUP)  # type: ignore[assignment]
    length = int(client.xlen(stream))

    assert before_ms <= seen["now_ms"] <= after_ms
    assert seen["open_sources"] == ["numbers"]
    work, edge = seen["stages"]["work"], seen["edges"][EDGE]
    assert work["in_handler"] == len(begun(project)) == work["slots"] == WORKERS * SLOTS
    assert work["in_handler"] + work["read_ahead"] == work["running"] == pending["pending"]
    assert (work["adds_up"], work["in"]) == (True, length)
    assert (edge["in_total"], edge["outstanding"]) == (length, length)
    assert edge["waiting"] == length - pending["pending"]
    assert (edge["maxsize"], edge["fill"]) == (MAXSIZE, length / MAXSIZE)
    assert edge["waiting_since_ms"] == int(client.xrange(stream, f"({pending['max']}", count=1)[0][0].split("-")[0])  # type: ignore[index, union-attr]
    assert edge["oldest_seconds"] == pytest.approx((seen["now_ms"] - edge["waiting_since_ms"]) / 1000, abs=0.001)
    assert {one["worker"]: one["running"]["work"] for one in seen["workers"]} == {
        one["name"]: one["pending"] for one in pending["consumers"]
    }


@pytest.mark.usefixtures("running")
def test_workers_report_what_they_are(project: Project, client: redis.Redis) -> None:
    keys = Keys(project.variables["FLOWQ_NAMESPACE"], "figures")
    wait_until(lambda: status(project)["stages"]["work"]["in_handler"] == WORKERS * SLOTS)  # recorded once a second
    seen = status(project)

    assert len(seen["workers"]) == WORKERS
    for worker in seen["workers"]:
        registered = json.loads(str(client.hget(keys.workers, worker["worker"])))
        assert worker["version"] == flowq.__version__
        assert worker["slots"] == {"work": SLOTS, "keep": 2 * 5}
        assert worker["in_handler"] == {"work": SLOTS}
        assert (worker["pid"], worker["host"]) == (registered["pid"], registered["host"])
        assert worker["uptime_seconds"] == (seen["now_ms"] - registered["started_ms"]) / 1000
        assert 0 < worker["lease_left_seconds"] <= worker["lease_seconds"] == 15
        assert 0 <= worker["silent_seconds"] < worker["lease_seconds"]


def test_a_killed_worker_is_reported_with_how_and_when(
    project: Project, client: redis.Redis, running: FlowqProcess
) -> None:
    first, second = status(project)["workers"]
    before_ms = server_ms(client)

    os.kill(first["pid"], signal.SIGKILL)
    wait_until(lambda: status(project)["dead_workers"])

    [dead] = status(project)["dead_workers"]
    assert dead.pop("at_ms") in range(before_ms, server_ms(client) + 1)
    assert dead == {
        "worker": first["worker"],
        "host": first["host"],
        "pid": first["pid"],
        "stages": ["work", "keep"],
        "how": "died of SIGKILL",
    }
    shown = project.ok("status", "figures").stdout
    assert "1 worker died" in shown
    assert f"{first['worker']} died of SIGKILL" in shown
    assert second["worker"] not in shown

    for name in ("go", "end"):
        (project.folder / name).touch()
    assert running.wait() == 0, running.stderr
    ended = status(project)
    assert (ended["workers"], [one["worker"] for one in ended["dead_workers"]]) == ([], [first["worker"]])
    # A source without a cursor that was in the killed worker has begun again.
    assert len({stage["ok"] for stage in ended["stages"].values()}) == 1
    assert all(stage["adds_up"] for stage in ended["stages"].values())


@pytest.mark.usefixtures("running")
def test_every_call_is_in_the_histogram_between_its_bounds(project: Project) -> None:
    """The handlers of `work` waited at least as long as one look took; those of `keep` did not wait at all."""
    began_ms, seen_ms = status(project)["now_ms"], status(project)["now_ms"]
    (project.folder / "go").touch()

    def calls() -> int:
        """Of the handlers that waited."""
        bars = status(project)["stages"]["work"]["durations"]
        assert all(bar["from_seconds"] < bar["to_seconds"] for bar in bars)
        return sum(bar["calls"] for bar in bars if bar["to_seconds"] > (seen_ms - began_ms) / 1000)

    wait_until(lambda: calls() >= WORKERS * SLOTS)  # each worker records its own, once a second
    assert calls() == WORKERS * SLOTS
