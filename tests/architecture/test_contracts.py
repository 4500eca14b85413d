"""The import contracts of pyproject.toml hold, and each catches what it is meant to catch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS, PURE = "Each floor looks down, never up", "Floors 1 to 3 are pure"
REDIS, TERMINAL = "Only the broker knows Redis", "Only the command line knows the terminal"
PLANTS = [
    (FLOORS, "delivery", "graph"),
    (FLOORS, "graph", "broker"),
    (FLOORS, "broker", "runtime"),
    (FLOORS, "publisher", "inspector"),
    (PURE, "errors", "logging"),
    (PURE, "delivery", "random"),
    (PURE, "graph", "time"),
    (REDIS, "runtime", "redis"),
    (REDIS, "cli", "redis"),
    (TERMINAL, "inspector", "rich"),
    ("Rooms of the graph", "graph.declaration", "graph.compilation"),
    ("Rooms of the graph", "graph.compilation", "graph.render"),
    ("Rooms of the broker", "broker.client", "broker.reader"),
    ("Rooms of the broker", "broker.flow_control", "broker.inspection"),
    ("Rooms of the runtime", "runtime.handlers", "runtime.stage"),
    ("Rooms of the runtime", "runtime.stage", "runtime.housekeeping"),
    ("Rooms of the command line", "cli.framework", "cli.views"),
    ("Rooms of the command line", "cli.run", "cli.commands"),
    ("Rooms of the test kit", "testing.simulation", "testing.journal"),
    ("Rooms of the test kit", "testing.recording", "testing.pipeline_harness"),
]
"""A contract, a module of flowq, and what it must not import: another module of flowq, or one from outside."""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts on the flowq package in a folder."""
    command = [Path(sysconfig.get_path("scripts"), "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def file_of(module: str, flowq: Path) -> Path:
    path = flowq.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each broken contract says of a copy of flowq with all the plants."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "flowq", folder / "flowq")
    for _, module, imported in PLANTS:
        with file_of(module, folder / "flowq").open("a") as source:
            source.write(f"\nimport {in_full(imported)}\n")
    _, *broken = re.split(r"\n(.+)\n-{3,}\n", lint_imports(folder).stdout.partition("Broken contracts")[2])
    return dict(zip(broken[::2], broken[1::2], strict=True))


def in_full(imported: str) -> str:
    return f"flowq.{imported}" if file_of(imported, ROOT / "flowq").exists() else imported


def test_every_contract_is_kept() -> None:
    run = lint_imports(ROOT)

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("contract", "module", "imported"), PLANTS)
def test_a_forbidden_import_breaks_its_contract(
    contract: str, module: str, imported: str, planted: dict[str, str]
) -> None:
    assert f"flowq.{module} -> {in_full(imported)} (" in planted[contract]


def test_a_module_on_no_floor_breaks_the_layers(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "flowq", tmp_path / "flowq")
    (tmp_path / "flowq" / "basement.py").write_text('"""On no floor."""\n')

    run = lint_imports(tmp_path)

    assert run.returncode != 0
    assert "basement" in run.stdout + run.stderr
