"""Short storms over a real run. `make chaos` runs longer ones, with other seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm import weather

SECONDS = 6.0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_lost_doubled_or_left_behind_in_a_storm(seed: int, tmp_path: Path) -> None:
    faults: list[str] = []

    outcome = await weather(SECONDS, seed=seed, folder=tmp_path, say=faults.append)

    assert not outcome.violated, "\n".join([*faults, outcome.report])
