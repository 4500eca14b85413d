"""A short storm over a real run. `make chaos` brings longer ones, and other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm import weather

SECONDS = 15.0


@pytest.mark.timeout(150)
async def test_nothing_is_lost_doubled_or_left_behind_in_a_storm(tmp_path: Path) -> None:
    faults: list[str] = []

    outcome = await weather(SECONDS, seed=1, folder=tmp_path, say=faults.append)

    assert not outcome.violated, "\n".join([*faults, outcome.report])
