"""Metrics for Prometheus: a run and the exporter both serve the numbers of Redis."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.http_client import get, samples, url_of
from tests.integration.project import Project, own_redis

PIPELINE = """
from __future__ import annotations
from collections.abc import Iterator
from flowq import Pipeline, Reject, source, stage

@source
def numbers() -> Iterator[int]: yield from range(10)

@stage
async def odd(number: int) -> int | None:
    if number == 4: raise Reject("four")
    return number if number % 2 else None

@stage
async def store(number: int) -> None: ...

lab = Pipeline("lab", numbers >> odd >> store)
"""
# By hand: 10 numbers, of which 5 are odd, 4 is rejected and 4 others are left out.
SETTLED = {
    ("dead", "lab", "odd"): 1,
    ("filtered", "lab", "odd"): 4,
    ("ok", "lab", "odd"): 5,
    ("dead", "lab", "store"): 0,
    ("filtered", "lab", "store"): 0,
    ("ok", "lab", "store"): 5,
}


pytestmark = pytest.mark.project({"lab": PIPELINE})


@pytest.fixture
def run(project: Project) -> FlowqProcess:
    """A run that has settled everything and stays."""
    run = project.start("run", "lab", "--forever", "--max-dead", "1", "--metrics", ":0")
    run.wait_for(lambda: settled(url_of(run)) == SETTLED)
    return run


def settled(url: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in samples(url).items() if key[0] == "flowq_messages_total"}


def told_by(process: FlowqProcess) -> set[tuple[str, ...]]:
    """The metrics that do not depend on when they are asked for."""
    return {key for key in samples(url_of(process)) if key[0] != "flowq_worker_silent_seconds"}


def test_a_run_serves_the_counters_of_its_pipeline_on_loopback_alone(run: FlowqProcess) -> None:
    url = url_of(run)
    found = samples(url)

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert found["flowq_up", "lab"] == 1
    assert found["flowq_messages_received_total", "lab", "odd"] == 10
    assert found["flowq_messages_emitted_total", "lab", "numbers"] == 10
    assert found["flowq_dead_letters", "lab", "odd"] == 1
    assert found["flowq_workers", "lab"] == 1
    assert found["flowq_waiting_messages", "odd>store", "lab", "store"] == 0


def test_promtool_has_nothing_to_say_about_the_metrics(run: FlowqProcess) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool; apt-get install prometheus")
    run.wait_for(lambda: ("flowq_handler_duration_seconds", "lab", "0.95", "odd") in samples(url_of(run)))
    text = get(f"{url_of(run)}/metrics").text

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_an_exporter_finds_pipelines_without_their_code(project: Project, run: FlowqProcess, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    server = own_redis(tmp_path)
    with Project(elsewhere) as empty:
        exporter = empty.start("exporter", "--listen", "0", "--redis", server)

        assert settled(url_of(exporter)) == SETTLED
        # Durations come a second after their calls, and go half a minute later: between the two looks as well.
        run.wait_for(lambda: told_by(exporter) == told_by(run))
        os.kill(exporter.pid, signal.SIGTERM)
        assert exporter.wait() == 0, exporter.stderr


def test_messages_that_are_due_count_as_ready_though_no_worker_runs(project: Project) -> None:
    for delay in ("0s", "1ms", "1h"):
        project.ok("push", "lab.odd", "1", "--delay", delay)
    # A push records no plan, for it may be an older program's: a run does.
    project.ok("run", "lab", "--stage", "store", "--for", "100ms")
    exporter = project.start("exporter", "lab", "--listen", "0")

    found = samples(url_of(exporter))

    assert found["flowq_waiting_messages", ">odd", "lab", "odd"] == 1
    assert found["flowq_delayed_messages", ">odd", "lab", "odd"] == 2
    assert found["flowq_ready_messages", "lab", "odd"] == 2
    assert 0 < found["flowq_oldest_waiting_seconds", ">odd", "lab", "odd"] < 60
    assert found["flowq_edge_memory_bytes", ">odd", "lab", "odd"] > 100


def test_probes_say_how_the_workers_are(project: Project, run: FlowqProcess) -> None:
    url, (worker,) = url_of(run), project.workers()

    alive, ready = get(f"{url}/healthz"), get(f"{url}/readyz")

    assert (alive.status, ready.status) == (200, 200)
    (about,) = alive.json["workers"]
    assert about["pid"] == worker
    assert 0 <= about["silent_seconds"] < 60
    assert get(f"{url}/nothing").status == 404
    done = project.run("healthcheck", "lab", "--json")
    assert done.wait() == 0, done.stdout
    assert [found["pid"] for found in json.loads(done.stdout)["workers"]] == [worker]


def test_a_run_whose_worker_is_frozen_is_not_ready_once_its_lease_is_over(project: Project) -> None:
    run = project.start("run", "lab", "--forever", "--lease", "1s", "--max-dead", "1", "--metrics", ":0")
    url = url_of(run)
    run.wait_for(lambda: get(f"{url}/readyz").status == 200)

    for worker in project.workers():
        os.kill(worker, signal.SIGSTOP)

    run.wait_for(lambda: get(f"{url}/readyz").status == 503)
    done = project.run("healthcheck", "lab")
    assert done.wait() == 1
    assert "lost its lease" in done.stderr


def test_a_redis_that_is_gone_makes_a_run_unready_but_not_unhealthy(project: Project, run: FlowqProcess) -> None:
    (server,) = [pid for pid, command in project.pids().items() if "redis-server" in command]
    url = url_of(run)

    os.kill(server, signal.SIGKILL)

    run.wait_for(lambda: get(f"{url}/readyz").status == 503)
    assert get(f"{url}/healthz").status == 200
    assert samples(url)["flowq_up", "lab"] == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (("run", "lab", "--metrics", "here"), 2, '--metrics: "here" is not an address    --metrics :9100'),
        (("exporter", "--listen", "localhost:70000"), 2, '--listen: "localhost:70000" is not an address'),
        (("exporter", "--redis", "redis://127.0.0.1:1"), 4, "cannot reach Redis at redis://127.0.0.1:1"),
        (("healthcheck", "lap"), 2, 'no pipeline "lap" in ./pipelines    did you mean "lab"?'),
        (("healthcheck", "lab", "--silent", "soon"), 2, "--silent: "),
        (("healthcheck", "lab"), 1, "no worker of lab is running here"),
        (("healthcheck", "lab", "--redis", "redis://127.0.0.1:1"), 4, "cannot reach Redis at redis://127.0.0.1:1"),
    ],
)
def test_wrong_input_is_answered_by_one_clear_line(
    project: Project, arguments: tuple[str, ...], exit_code: int, text: str
) -> None:
    done = project.run(*arguments)

    assert done.wait() == exit_code
    assert text in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said_with_a_remedy(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = project.run("run", "lab", "--metrics", str(port))

    assert done.wait() == 2
    assert f"127.0.0.1:{port} is taken" in done.stderr
    assert f"--metrics :{port + 1}" in done.stderr


@pytest.mark.parametrize("command", ["exporter", "healthcheck"])
def test_the_help_has_an_example(project: Project, command: str) -> None:
    done = project.ok(command, "--help")
    assert re.search(rf"^    flowq {command}", done.stdout, re.MULTILINE)
