"""The examples in the docstrings of flowq run, and print what they say."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import flowq

_FLOWQ = Path(flowq.__file__).parent
_WITH_EXAMPLES = sorted(file for file in _FLOWQ.rglob("*.py") if ">>> " in file.read_text())


@pytest.mark.parametrize("file", _WITH_EXAMPLES, ids=lambda file: str(file.relative_to(_FLOWQ)))
def test_the_examples_of_a_module_run(file: Path) -> None:
    parts = file.relative_to(_FLOWQ.parent).with_suffix("").parts
    module = import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", ["Inspector", "Publisher", "run"])
def test_a_public_docstring_describes_every_parameter(name: str) -> None:
    public = getattr(flowq, name)
    parameters = inspect.signature(public).parameters
    assert [parameter for parameter in parameters if f"\n{parameter}: " not in (inspect.getdoc(public) or "")] == []
