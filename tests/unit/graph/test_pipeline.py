"""A pipeline knows its name, its place and its plan; the public names are few and light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flowq
from flowq import Pipeline, stage


@stage
def show(number: int) -> None: ...


def test_a_pipeline_knows_where_it_is_written() -> None:
    pipeline = Pipeline("numbers", show)
    line = Path(__file__).read_text().splitlines()[pipeline.place.line - 1]
    assert 'Pipeline("numbers", show)' in line


def test_the_file_of_a_place_is_relative_to_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert Pipeline("numbers", show).plan.stage("show").place.file == "test_pipeline.py"
    monkeypatch.chdir(tmp_path)
    assert Pipeline("numbers", show).place.file == __file__


def test_a_pipeline_shows_its_stages() -> None:
    assert repr(Pipeline("numbers", show)) == "<Pipeline numbers: show>"


def test_an_unknown_name_is_no_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        _ = flowq.Pipelin


@pytest.mark.parametrize("name", flowq.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(flowq, name) is not None


def test_importing_the_package_loads_neither_redis_nor_the_terminal_nor_asyncio() -> None:
    program = "import sys, flowq; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert not {"redis", "networkx", "typer", "rich", "asyncio", "logging"} & set(loaded.stdout.split())
