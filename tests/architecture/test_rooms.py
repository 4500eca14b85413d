"""Every file of flowq/ has one place, where a newcomer finds it: no cycles, no namesakes, no crowded folder."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import grimp
import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]
FLOWQ = ROOT / "flowq"
COMMANDS = FLOWQ / "cli" / "commands"  # one file for each command, named as the command is
FOLDER_FILES = 20

PACKAGES = sorted(path.parent for path in FLOWQ.rglob("__init__.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for the type checker and inside functions count: a reader follows them as well."""
    graph = grimp.build_graph("flowq", cache_dir=None)
    imports: nx.DiGraph[str] = nx.DiGraph(
        (module, imported) for module in graph.modules for imported in graph.find_modules_directly_imported_by(module)
    )

    circles = [sorted(modules) for modules in nx.strongly_connected_components(imports) if len(modules) > 1]

    assert circles == []


def test_no_two_files_have_one_name() -> None:
    named: dict[str, list[str]] = defaultdict(list)
    for path in sorted(FLOWQ.rglob("*.py")):
        if path.name != "__init__.py" and path.parent != COMMANDS:
            named[path.name].append(name_of(path))

    assert [places for places in named.values() if len(places) > 1] == []


def test_no_folder_is_crowded() -> None:
    counts = {name_of(package): len(list(package.glob("*.py"))) for package in PACKAGES if package != COMMANDS}

    assert {folder: n for folder, n in counts.items() if n > FOLDER_FILES} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_says_in_two_sentences_what_lives_there_and_what_may_not(package: Path) -> None:
    docstring = re.match(r'"""(.*?)"""', (package / "__init__.py").read_text(), re.DOTALL)

    assert docstring
    assert len(re.findall(r"\.(?=\s|$)", docstring[1])) >= 2


def test_the_table_of_floors_names_every_package() -> None:
    floors = (ROOT / "CONTRIBUTING.md").read_text().partition("## The floors and their rooms")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/]+)/`", floors))

    assert {package.relative_to(FLOWQ).as_posix() for package in PACKAGES if package != FLOWQ} == named
