"""The import contracts of pyproject.toml hold, and each of them catches what it is there for."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLANTS = [
    ("Each floor looks down, never up", "delivery/__init__.py", "import flowq.graph"),
    ("Each floor looks down, never up", "graph/__init__.py", "import flowq.broker"),
    ("Each floor looks down, never up", "broker/__init__.py", "import flowq.runtime"),
    ("Each floor looks down, never up", "publisher.py", "import flowq.inspector"),
    ("Floors 1 to 3 are pure", "errors.py", "import logging"),
    ("Floors 1 to 3 are pure", "delivery/__init__.py", "import random"),
    ("Floors 1 to 3 are pure", "graph/__init__.py", "from time import monotonic"),
    ("Only the broker knows Redis", "runtime/__init__.py", "import redis.asyncio"),
    ("Only the broker knows Redis", "cli/__init__.py", "import redis"),
    ("Only the command line knows the terminal", "inspector.py", "from rich.table import Table"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts on the flowq package that lies in a folder."""
    command = [Path(sysconfig.get_path("scripts"), "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def test_every_contract_is_kept() -> None:
    run = lint_imports(ROOT)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("contract", "module", "line"), PLANTS)
def test_a_forbidden_import_breaks_its_contract(contract: str, module: str, line: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "flowq", tmp_path / "flowq")
    with (tmp_path / "flowq" / module).open("a") as source:
        source.write(f"\n{line}\n")

    run = lint_imports(tmp_path)

    assert f"{contract} BROKEN" in run.stdout, run.stdout + run.stderr


def test_a_module_on_no_floor_breaks_the_layers(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "flowq", tmp_path / "flowq")
    (tmp_path / "flowq" / "basement.py").write_text('"""On no floor."""\n')

    run = lint_imports(tmp_path)

    assert run.returncode != 0
    assert "basement" in run.stdout + run.stderr
