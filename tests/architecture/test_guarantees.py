"""The page of guarantees names its evidence, and all of it exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    existing = {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text())}

    assert len(named) > 50
    assert named - existing == set()
