"""Checkers refuse each mistake of the corpus on its line, and nothing that is right; so does the import."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowq import Pipeline, PipelineError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORPUS = {"ok.py", "bad.py", "stages.py"}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(name: str) -> list[Any]:
    functions = inspect.getmembers(load(name), inspect.isfunction)
    return [
        pytest.param(function, id=case)
        for case, function in functions
        if function.__module__ == f"corpus_{name}"
        and not inspect.iscoroutinefunction(function)
        and not case.startswith("only_checkers_see")
    ]


def compiled(flow: object) -> object:
    flows = flow if isinstance(flow, tuple) else (flow,)
    return flow if isinstance(flow, Pipeline) else Pipeline("corpus", *flows)


def marked_lines() -> set[tuple[str, int]]:
    lines = (HERE / "bad.py").read_text().splitlines()
    return {("bad.py", number) for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def checker(module: str, *arguments: str) -> str:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    command = [sys.executable, "-m", module, *arguments, *(str(HERE / name) for name in sorted(CORPUS))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("case", cases("ok"))
def test_a_right_flow_compiles(case: Callable[[], object]) -> None:
    assert compiled(case())


@pytest.mark.parametrize("case", cases("bad"))
def test_a_mistake_is_refused_at_import_too(case: Callable[[], object]) -> None:
    with pytest.raises((PipelineError, TypeError)):
        compiled(case())


def test_the_corpus_is_large() -> None:
    assert len(cases("ok")) >= 29
    assert len(marked_lines()) >= 32


def test_pyright_strict_flags_each_mistake_and_nothing_else() -> None:
    findings = json.loads(checker("pyright", "--outputjson"))["generalDiagnostics"]
    flagged = {
        (Path(finding["file"]).name, finding["range"]["start"]["line"] + 1)
        for finding in findings
        if Path(finding["file"]).parent == HERE and finding["severity"] == "error"
    }
    assert flagged == marked_lines()


def test_mypy_strict_flags_each_mistake_and_nothing_else() -> None:
    output = checker("mypy", "--strict", "--explicit-package-bases", "--no-error-summary")
    found = re.findall(r"^(\S+?):(\d+): error:", output, re.MULTILINE)
    flagged = {(Path(file).name, int(line)) for file, line in found if (ROOT / file).parent == HERE}
    assert flagged == marked_lines()
