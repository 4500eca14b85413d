"""`flowq new` and `flowq init`: what they write passes its own tests, runs, and never replaces what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.project import Project, clean_environ

TEMPLATES = ("scraping", "etl", "dispatch")
TAKEN = (
    "flowq",
    "__init__",
    "__main__",
    "redis",
    "pydantic",
    "asyncio",
    "csv",
    "json",
    "list",
    "print",
    "source",
    "stage",
)


@pytest.fixture(autouse=True)
def empty(project: Project) -> None:
    (project.folder / "pipelines").rmdir()


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=clean_environ(), capture_output=True, text=True, timeout=300
    )


def test_the_scraping_template_asks_for_what_it_imports(project: Project) -> None:
    assert project.flowq("new", "mine", "--template", "scraping").returncode == 0
    assert 'dependencies = ["flowq-streams[embedded,scraping]"]' in (project.folder / "pyproject.toml").read_text()


def test_what_the_scraping_template_imports_is_to_be_installed_first_where_it_is_missing(project: Project) -> None:
    project.write("without/sitecustomize.py", 'import sys\n\nsys.modules["selectolax"] = None')

    missing = project.flowq("new", "mine", PYTHONPATH=str(project.folder / "without"))
    there = project.flowq("new", "other")

    steps = ["  pip install 'flowq-streams[scraping]'", "  flowq run mine -a url=https://example.org/"]
    assert missing.stderr.splitlines()[-2:] == steps
    assert "pip install" not in there.stderr


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_generated_project_passes_its_own_tests_and_checks(project: Project, template: str) -> None:
    made = project.flowq("new", "mine", "--template", template)
    assert made.returncode == 0, made.stderr

    tested = python(project.folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    checked = project.flowq("check")
    explored = project.flowq("test", "mine", "--seeds", "3")

    assert (tested.returncode, tested.stderr) == (0, ""), tested.stdout
    assert (explored.returncode, explored.stderr) == (0, ""), explored.stderr
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "mine: ok\n", "")


def test_what_each_template_generates_is_typed_strictly(project: Project) -> None:
    for template in TEMPLATES:  # in one project: a type checker needs longest for what they all import
        assert project.flowq("new", f"from_{template}", "--template", template).returncode == 0
    project.write("pyrightconfig.json", '{"typeCheckingMode": "strict"}')

    mypy = python(project.folder, "-m", "mypy", "--strict", ".")
    pyright = python(project.folder, "-m", "pyright", "--pythonpath", sys.executable, ".")  # not that on the PATH

    assert (mypy.returncode, mypy.stdout) == (0, "Success: no issues found in 6 source files\n"), mypy.stderr
    assert pyright.returncode == 0, pyright.stdout


def test_the_sample_of_the_etl_template_runs_as_the_last_line_says(project: Project) -> None:
    made = project.flowq("new", "shop", "-t", "etl")
    assert made.stdout.split() == ["pipelines/shop.py", "shop.csv", "tests/test_shop.py", "pyproject.toml"]
    command = made.stderr.rpartition("flowq ")[2].split()

    run = project.flowq(*command, "--memory", "--json")

    summary = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 3  # the sample has one row that is no order
    assert (summary["drained"], summary["stages"]["load"]["ok"], summary["stages"]["validate"]["dead"]) == (True, 3, 1)


def test_nothing_is_written_over_without_force(project: Project) -> None:
    assert project.flowq("new", "mine").returncode == 0
    file = project.write("mine", "# my own work")
    (project.folder / "tests/test_mine.py").unlink()

    refused = project.flowq("new", "mine")

    assert refused.returncode == 2
    assert refused.stderr == "error[FQ218]: pipelines/mine.py exists    --force overwrites\n"
    assert file.read_text() == "# my own work"
    assert not (project.folder / "tests/test_mine.py").exists()
    assert project.flowq("new", "mine", "--force").returncode == 0
    assert 'Pipeline("mine"' in file.read_text()


def test_a_pyproject_that_is_there_is_added_to_and_otherwise_left_alone(project: Project) -> None:
    before = '[project]\nname = "theirs"  # with a comment\n\n[tool.pytest.ini_options]\naddopts = "-q"'
    file = project.write("pyproject.toml", before)

    assert project.flowq("init").returncode == 0
    once = file.read_text()
    for command in (("init",), ("new", ".")):
        assert project.flowq(*command).stdout == "this folder is already a project\n"
    assert project.flowq("new", "mine").returncode == 0

    assert once.startswith(before)
    assert once.count("[tool.flowq]") == 1
    assert file.read_text() == once
    assert project.flowq("check").stdout == "mine: ok\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["Mine"], 'error[FQ200]: "Mine" cannot name a pipeline'),
        (["../mine"], 'error[FQ200]: "../mine" cannot name a pipeline'),
        (["x" * 65], 'error[FQ200]: "xxxxx'),
        (["class"], 'error[FQ200]: "class" cannot name a pipeline'),
        *(([name], f'error[FQ200]: "{name}" cannot name a pipeline') for name in TAKEN),
        (["mine", "-t", "scrapping"], 'error[FQ200]: there is no template "scrapping"    did you mean "scraping"?'),
    ],
)
def test_wrong_input_is_one_clear_line_and_writes_nothing(project: Project, arguments: list[str], line: str) -> None:
    done = project.flowq("new", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith(line)
    assert list(project.folder.iterdir()) == []


@pytest.mark.parametrize("command", ["new", "init"])
def test_the_help_has_an_example(project: Project, command: str) -> None:
    assert f"  flowq {command}" in project.flowq(command, "--help").stdout.partition("Example:")[2]


@pytest.mark.parametrize("command", [(), ("run",), ("new",), ("dlq", "ls"), ("export", "k8s")])
def test_the_help_is_whole_where_python_throws_docstrings_away(project: Project, command: tuple[str, ...]) -> None:
    optimized = project.flowq(*command, "--help", PYTHONOPTIMIZE="2")
    assert optimized.stdout == project.flowq(*command, "--help").stdout
    assert "Example:" in optimized.stdout
