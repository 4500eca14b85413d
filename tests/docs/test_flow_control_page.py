"""The page on flow control: its examples run together as one module, and its pipeline has no mistakes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flowq import Pipeline

PAGE = Path(__file__).parents[2] / "docs" / "flow-control.md"


def test_the_examples_run_as_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module = ModuleType("flow_control_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile("\n".join(blocks), str(PAGE), "exec"), module.__dict__)

    pipeline = module.flow
    assert isinstance(pipeline, Pipeline)
    assert len(blocks) > 5
    assert {stage.name for stage in pipeline.plan.stages} >= {"fetch", "store", "remind"}
    assert not pipeline.plan.warnings


def test_every_figure_of_status_lines_is_as_the_screen_writes_it() -> None:
    (line,) = re.findall(r"^ ⧗ fetch example\.org.*$", PAGE.read_text(), re.MULTILINE)
    assert re.fullmatch(r" ⧗ \w+ \S+ is on hold for another \d+ s, .+, held \d+ times; [\d,]+ waiting", line)
