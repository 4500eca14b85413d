"""Writes the files of a new project or pipeline: all of them or none, and never over existing ones."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowq.errors import UsageError

TEMPLATES = {
    "scraping": ("-a url=https://example.org/", "crawls a website politely, each page once"),
    "etl": ("-a path={name}.csv", "loads a CSV file into a database; invalid rows become dead letters"),
    "dispatch": ("-a path={name}.ndjson", "delivers events as signed webhooks"),
}
"""What `flowq run` needs, and what it does, by template."""

PYPROJECT = "pyproject.toml"
_PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["flowq-streams[{extras}]"]

[dependency-groups]
test = ["flowq-streams[test]"]

[tool.mypy]
explicit_package_bases = true  # the folders of pipelines and tests need no __init__.py
"""
_SETTINGS = """
[tool.flowq]
pipelines.path = "{folder}"
redis = "embedded"  # flowq's own, in .flowq/, for commands and programs alike; or "redis://localhost:6379/0"

# [tool.flowq.pipelines.NAME.stages.STAGE]  # options of a stage, without touching its code
# concurrency = 32
"""
_PYTEST = """
[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_mode = "auto"  # runs tests that are coroutines
asyncio_default_fixture_loop_scope = "function"  # what pytest-asyncio would warn about; the extra "test" brings it
"""


class AlreadyThere(UsageError):
    """A file that would be overwritten."""

    code = "FQ218"


@dataclass(slots=True)
class Scaffold:
    """Files to be written below a folder, by path; `additions` go to the end of files that may be there."""

    root: Path
    new: dict[str, str] = field(default_factory=dict[str, str])
    additions: dict[str, str] = field(default_factory=dict[str, str])

    def write(self, *, force: bool) -> list[str]:
        """Write all of it; the paths. Raises AlreadyThere, and then nothing is written."""
        there = [path for path in self.new if (self.root / path).exists()]
        if there and not force:
            raise AlreadyThere(f"{' and '.join(there)} exist{'s' * (len(there) == 1)}", hint="--force overwrites")
        for path, text in self.additions.items():
            file = self.root / path
            self.new[path] = (file.read_text(encoding="utf-8") if file.exists() else "") + text
        for path, text in self.new.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return list(self.new)


def project(root: Path, folder: str, *, extras: str = "embedded") -> Scaffold:
    """What makes a folder a project: settings in pyproject.toml, unless they are there."""
    there = _pyproject(root / PYPROJECT)
    tool = there.get("tool", {})
    text = ""
    if not (root / PYPROJECT).exists():
        name = re.sub(r"[^A-Za-z0-9]+", "-", root.resolve().name).strip("-") or "pipelines"
        text += _PROJECT.format(name=name, extras=extras)
    if "flowq" not in tool:
        text += _SETTINGS.format(folder=folder)
    if "ini_options" not in tool.get("pytest", {}):
        text += _PYTEST
    if text and there:
        text = "\n" + text.lstrip("\n")
    return Scaffold(root, additions={PYPROJECT: text} if text else {})


def pipeline(root: Path, folder: str, name: str, template: str) -> Scaffold:
    """A pipeline from a template, with its test and its sample, in a project."""
    scaffold = project(root, folder, extras="embedded,scraping" if template == "scraping" else "embedded")
    words = {"name": name, "package": folder.strip("/").replace("/", ".")}
    for source in sorted(files("flowq.cli").joinpath("templates", template).iterdir(), key=lambda file: file.name):
        text = re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], source.read_text(encoding="utf-8"))
        scaffold.new[_place(folder, name, source.name)] = text
    return scaffold


def user_of_name(name: str, template: str) -> str | None:
    """What already has a name that a new pipeline would take away from it, in its file or for its imports."""
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return "a Python module"
    if name in vars(builtins):
        return "a Python built-in"
    if name in _names_in(template):
        return f"a name in the {template} template"
    spec = find_spec(name)
    return None if spec is None or _is_in_project(spec) else "an installed package"


def _names_in(template: str) -> set[str]:
    text = files("flowq.cli").joinpath("templates", template, "pipeline.py.tmpl").read_text(encoding="utf-8")
    taken: set[str] = set()
    for node in ast.walk(ast.parse(text.replace("{{name}}", "_the_name_of_the_pipeline_"))):
        match node:
            case ast.Name(id=name):
                taken.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                taken.add(name)
            case ast.Import(names=aliases):
                taken.update(alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases):
                taken.update((str(module).partition(".")[0], *(alias.asname or alias.name for alias in aliases)))
            case _:
                pass
    return taken


def _is_in_project(spec: ModuleSpec) -> bool:
    """Whether this may be another pipeline of the project, or a folder of that name."""
    return spec.origin is None or (Path(spec.origin).is_relative_to(Path.cwd()) and "site-packages" not in spec.origin)


def _place(folder: str, name: str, file: str) -> str:
    match file:
        case "pipeline.py.tmpl":
            return f"{folder}/{name}.py"
        case "test.py.tmpl":
            return f"tests/test_{name}.py"
        case _:
            return f"{name}{Path(file).suffix}"


def _pyproject(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.name} is not valid TOML: {error}") from None
