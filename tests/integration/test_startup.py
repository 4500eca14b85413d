"""What a command loads before its first output. `make bench-startup` measures how long a user waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.startup import PIPELINE
from tests.integration.project import Project

OTHER_COMMANDS = {"fakeredis", "networkx", "starlette", "uvicorn", "jinja2", "prometheus_client", "obstore"}
OTHER_STAGES = {"httpx", "selectolax", "pyarrow", "protego"}
RUNS_STAGES = "flowq.runtime.process.runner"
ON_A_TERMINAL = {"rich.live", "flowq.cli.views.live_screen", "flowq.broker.inspection.overview"}

pytestmark = pytest.mark.project({"one": PIPELINE})


def test_the_help_loads_neither_redis_nor_pydantic_nor_asyncio(project: Project) -> None:
    loaded = _loaded_by(project, "--help")

    assert "typer" in loaded
    assert not {"redis", "pydantic", "asyncio", "logging", "rich", *OTHER_COMMANDS, *OTHER_STAGES} & loaded


@pytest.mark.parametrize("command", [("run", "one"), ("status", "one"), ("ls",), ("check", "one")])
def test_a_command_loads_nothing_that_only_other_commands_or_stages_need(
    project: Project, command: tuple[str, ...]
) -> None:
    loaded = _loaded_by(project, *command)

    assert "pydantic" in loaded
    assert not (OTHER_COMMANDS | OTHER_STAGES) & loaded


def test_a_run_in_memory_loads_its_stand_in_for_redis_and_nothing_else_of_others(project: Project) -> None:
    assert _loaded_by(project, "run", "one", "--memory") & (OTHER_COMMANDS | OTHER_STAGES) == {"fakeredis"}


def test_the_process_that_watches_a_run_loads_neither_what_runs_it_nor_what_a_terminal_shows(project: Project) -> None:
    loaded = set(_lines_of(project, "run", "one"))

    assert "flowq.runtime.process.supervisor" in loaded
    assert not {RUNS_STAGES, "multiprocessing", *ON_A_TERMINAL} & loaded


def test_a_run_says_what_it_will_run_before_it_loads_what_runs_it(project: Project) -> None:
    lines = _lines_of(project, "run", "one", "--memory")

    first = next(number for number, line in enumerate(lines) if line.startswith("flowq ") and "one" in line)
    assert first < lines.index(RUNS_STAGES)
    assert not {*ON_A_TERMINAL, "flowq.dead_letters.dead_letters"} & set(lines)


def _loaded_by(project: Project, *arguments: str) -> set[str]:
    """The packages that a command imports."""
    return {line.partition(".")[0] for line in _lines_of(project, *arguments)}


def _lines_of(project: Project, *arguments: str) -> list[str]:
    """What a command imports, as Python itself lists it, between the lines that the command writes."""
    command = [sys.executable, "-X", "importtime", "-m", "flowq", *arguments]
    process = subprocess.run(
        command, cwd=project.folder, env=project.environ, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return [line.rpartition("|")[2].strip() for line in process.stderr.splitlines()]
