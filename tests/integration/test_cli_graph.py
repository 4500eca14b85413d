"""`flowq graph`, `check` and `ls`: what they print, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.integration.project import SCRAPE, Project

EDGES = {("seeds", "fetch"), ("fetch", "parse"), ("parse", "store"), ("parse", "fetch")}


pytestmark = pytest.mark.project({"scrape": SCRAPE})


# graph


def test_a_tree_is_drawn_unless_another_format_is_asked_for(project: Project) -> None:
    run = project.flowq("graph", "scrape")

    assert (run.returncode, run.stderr) == (0, "")
    rows = run.stdout.splitlines()
    assert [name for row in rows for name in ("seeds", "fetch", "parse", "store") if f" {name} " in row][:4] == [
        "seeds",
        "fetch",
        "parse",
        "store",
    ]


def test_json_has_the_edges_that_the_user_wrote(project: Project) -> None:
    run = project.flowq("graph", "scrape", "-f", "json")

    assert {(edge["from"], edge["to"]) for edge in json.loads(run.stdout)["edges"]} == EDGES


@pytest.mark.parametrize(("format", "start"), [("mermaid", "flowchart LR"), ("dot", "digraph"), ("svg", "<svg")])
def test_each_format_goes_to_stdout(project: Project, format: str, start: str) -> None:
    run = project.flowq("graph", "scrape", "--format", format)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(start)


def test_a_file_gets_the_format_of_its_suffix_and_stdout_stays_empty(project: Project) -> None:
    run = project.flowq("graph", "scrape", "-o", "scrape.svg")

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "wrote scrape.svg\n")
    assert ElementTree.parse(project.folder / "scrape.svg").getroot().tag.endswith("svg")


def test_a_format_that_is_asked_for_wins_over_the_suffix(project: Project) -> None:
    project.flowq("graph", "scrape", "-f", "mermaid", "-o", "scrape.svg")

    assert (project.folder / "scrape.svg").read_text().startswith("flowchart LR")


def test_an_unknown_format_and_an_impossible_file_are_usage_errors(project: Project) -> None:
    format = project.flowq("graph", "scrape", "-f", "mermiad")
    file = project.flowq("graph", "scrape", "-o", "no/such/folder/x.svg")

    assert format.returncode == 2
    assert 'did you mean "mermaid"?' in format.stderr
    assert file.returncode == 2
    assert "error[FQ200]: cannot write no/such/folder/x.svg" in file.stderr


def test_a_terminal_without_utf_8_gets_ascii(project: Project) -> None:
    run = project.flowq("graph", "scrape", PYTHONIOENCODING="ascii")

    assert run.returncode == 0
    assert run.stdout.isascii()
    assert "parse" in run.stdout


# check


def test_a_sound_project_is_ok(project: Project) -> None:
    run = project.flowq("check")

    assert (run.returncode, run.stdout, run.stderr) == (0, "scrape: ok\n", "")


def test_warnings_are_shown_and_are_no_failure(project: Project) -> None:
    project.write("scrape", SCRAPE.replace('dedup="url", ', ""))

    run = project.flowq("check", "scrape")

    assert (run.returncode, run.stdout) == (0, "scrape: 1 warning\n")
    assert run.stderr.startswith("warning[FQ305]: cycle fetch -> parse -> fetch has no dedup")


def test_one_broken_pipeline_does_not_hide_the_others(project: Project) -> None:
    project.write("broken", "1 / 0\n")
    project.write("zoo", SCRAPE.replace('"scrape"', '"zoo"'))

    run = project.flowq("check")

    assert run.returncode == 2
    assert [line for line in run.stdout.splitlines() if line] == ["broken: 1 error", "scrape: ok", "zoo: ok"]
    assert "ZeroDivisionError: division by zero" in run.stderr


def test_the_json_of_check_has_the_problems(project: Project) -> None:
    project.write("wrong", SCRAPE.replace("(store | fetch)", "store").replace('"scrape"', '"wrong"'))

    run = project.flowq("check", "--json")

    assert (run.returncode, run.stderr) == (2, "")
    scrape, wrong = json.loads(run.stdout)
    assert (scrape["name"], scrape["ok"], scrape["problems"]) == ("scrape", True, [])
    assert (wrong["name"], wrong["file"], wrong["ok"]) == ("wrong", "pipelines/wrong.py", False)
    problem = wrong["problems"][0]
    assert (problem["code"], problem["severity"]) == ("FQ103", "error")
    assert problem["place"]["file"] == "pipelines/wrong.py"


def test_check_finds_settings_for_stages_that_do_not_exist(project: Project) -> None:
    project.write("pyproject.toml", "[tool.flowq.pipelines.scrape.stages.fecth]\nconcurrency = 3\n")

    run = project.flowq("check")

    assert run.returncode == 2
    assert 'did you mean "fetch"?' in run.stderr


# ls


def test_ls_names_pipelines_stages_and_files(project: Project) -> None:
    run = project.flowq("ls")

    header, row = run.stdout.splitlines()
    assert header.split() == ["pipeline", "stages", "file"]
    assert row.split() == ["scrape", "seeds,", "fetch,", "parse,", "store", "pipelines/scrape.py"]
    assert (run.returncode, run.stderr) == (0, "")


def test_a_file_that_does_not_import_is_listed_with_its_error_and_is_no_failure(project: Project) -> None:
    project.write("broken", "1 / 0\n")

    table, data = project.flowq("ls"), project.flowq("ls", "--json")

    assert (table.returncode, data.returncode) == (0, 0)
    assert "ZeroDivisionError: division by zero" in table.stdout
    assert table.stderr == "1 of 2 cannot be loaded: flowq check shows why\n"
    broken, scrape = json.loads(data.stdout)
    assert broken == {
        "name": "broken",
        "stages": [],
        "file": "pipelines/broken.py",
        "error": "ZeroDivisionError: division by zero",
    }
    assert (scrape["stages"], scrape["error"]) == (["seeds", "fetch", "parse", "store"], None)


def test_a_folder_without_pipelines_says_how_to_begin(tmp_path: Path) -> None:
    run = Project(tmp_path).flowq("ls")

    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr.startswith("no pipelines in pipelines: write pipelines/NAME.py")
