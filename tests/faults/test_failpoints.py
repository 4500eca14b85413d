"""A worker is killed at every step of the path of a message: what it had done is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.failpoints import POINTS
from tests.faults.servers import DurableServer
from tests.faults.storm import ended, judged, start
from tests.integration.project import Project

ROOTS = 60
SECONDS = 120.0


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_killed_at_any_step_of_a_message_loses_and_doubles_nothing(point: str, tmp_path: Path) -> None:
    died, log = tmp_path / "died", tmp_path / "handled.log"
    with (
        DurableServer("bundled") as server,
        Project(tmp_path, STORM_LOG=str(log), FAILPOINT=point, FAILPOINT_FILE=str(died)) as project,
    ):
        run = start(project, server.url, ROOTS, seconds=0.0, workers=2)
        assert await ended(run, SECONDS), run.stderr
        violated, report = await judged(server, log, ROOTS)

    assert died.exists(), "no process reached this point"
    assert not violated, f"{report}\n{run.stderr}"
    assert run.popen.returncode == 0, run.stderr
