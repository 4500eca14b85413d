"""After every kind of outage a run is soon back at its speed, by itself, without flooding its log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.recovery import FAULTS, Recovery, idle_cpu, recoveries
from tests.faults.survivor import MOST_LINES_PER_SECOND

OUTAGE_SECONDS = 1.0
MOST_IDLE_CPU = 0.02

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a run in /proc")


async def test_after_each_outage_the_same_worker_is_back_at_its_speed_within_ten_seconds(tmp_path: Path) -> None:
    told: list[Recovery] = []

    await recoveries(tmp_path, OUTAGE_SECONDS, tell=told.append)

    table = "\n".join(map(str, told))
    assert [recovery.fault for recovery in told] == list(FAULTS)
    assert all(recovery.seconds is not None for recovery in told), table
    assert all(recovery.is_same_worker for recovery in told), table
    assert all(recovery.lines_per_second < MOST_LINES_PER_SECOND for recovery in told), table


async def test_a_worker_that_waits_takes_less_than_a_fiftieth_of_a_core(tmp_path: Path) -> None:
    assert await idle_cpu(tmp_path) < MOST_IDLE_CPU
