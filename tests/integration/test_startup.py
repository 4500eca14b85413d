"""What a command loads before its first output. `make bench-startup` measures how long a user waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.startup import PIPELINE
from tests.integration.project import Project

OTHER_COMMANDS = {"fakeredis", "networkx", "starlette", "uvicorn", "jinja2", "prometheus_client", "obstore"}
OTHER_STAGES = {"httpx", "selectolax", "pyarrow", "protego"}

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


def _loaded_by(project: Project, *arguments: str) -> set[str]:
    """The packages that a command imports, as Python itself lists them."""
    command = [sys.executable, "-X", "importtime", "-m", "flowq", *arguments]
    process = subprocess.run(
        command, cwd=project.folder, env=project.environ, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr[-2000:]
    lines = [line for line in process.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
