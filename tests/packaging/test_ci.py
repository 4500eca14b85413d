"""The workflow for a public host: it runs recipes that exist, on every Python that the project names."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.packaging.environments import ROOT

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]
RECIPES = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]


def made(text: str) -> set[str]:
    """The recipes that a shell script makes."""
    return set(re.findall(r"\bmake ([a-z-]+)", text))


def test_its_steps_only_make_recipes_of_the_makefile_or_prepare_the_machine() -> None:
    for _, step in STEPS:
        run = step.get("run", "make setup")
        assert run.startswith("sudo ") or made(run), run
        assert made(run) <= RECIPES, run


def test_it_makes_all_that_the_local_one_makes() -> None:
    local = made((ROOT / ".ci" / "run").read_text()) & RECIPES
    assert local == {"setup", "data", "test"}
    assert local <= made("\n".join(step["run"] for name, step in STEPS if name == "everything" and "run" in step))
    assert JOBS["everything"]["env"] == {"FLOWQ_REQUIRE_ALL": "1"}


def test_every_python_that_the_project_names_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
    own = {step["with"]["python-version"] for name, step in STEPS if name == "everything" and "with" in step and
           "python-version" in step["with"]}  # fmt: skip
    assert own | set(JOBS["python"]["strategy"]["matrix"]["python"]) == named


def test_it_may_only_read_and_no_step_can_hang_for_ever() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in JOBS.values())
    checkouts = [step for _, step in STEPS if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_the_forms_for_issues_ask_something_and_require_an_answer(form: str) -> None:
    parsed = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert parsed["name"]
    assert parsed["description"]
    fields = [field for field in parsed["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
