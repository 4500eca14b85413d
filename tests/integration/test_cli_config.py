"""`flowq config`: which values apply, where they come from, and what is never shown; and names for shell completion."""

from __future__ import annotations

import json

import pytest

from tests.integration.project import SCRAPE, Project

PYPROJECT = """
    [tool.flowq]
    lease = "20s"
    workers = 2

    [tool.flowq.pipelines.scrape.stages.parse]
    concurrency = 3
    retry = { attempts = 8 }

    [tool.flowq.profiles.prod]
    redis = "rediss://app:sesame@db.example.org:6380/1"
    workers = 8
"""


pytestmark = pytest.mark.project({"scrape": SCRAPE, "pyproject.toml": PYPROJECT})


def settings(project: Project, *arguments: str, **environ: str) -> dict[str, tuple[str, str]]:
    """Setting to value and origin, as JSON tells them."""
    done = project.flowq("config", *arguments, "--json", **environ)
    assert done.returncode == 0, done.stderr
    return {found["name"]: (found["value"], found["origin"]) for found in json.loads(done.stdout)}


def test_each_setting_says_where_it_comes_from_and_the_last_place_wins(project: Project) -> None:
    found = settings(
        project,
        "scrape",
        "--profile",
        "prod",
        "--namespace",
        "mine",
        FLOWQ_GRACE="5s",
        FLOWQ_SCRAPE__FETCH__CONCURRENCY="32",
        FLOWQ_SCRAPE__STORE__RETRY__MAX="5m",
    )

    assert found["pipelines"] == ("pipelines", "built-in")
    assert found["lease"] == ("20s", "pyproject.toml [tool.flowq]")
    assert found["workers"] == ("8", "pyproject.toml [tool.flowq.profiles.prod]")
    assert found["grace"] == ("5s", "env FLOWQ_GRACE")
    assert found["namespace"] == ("mine", "flag --namespace")
    assert found["fetch.concurrency"] == ("32", "env FLOWQ_SCRAPE__FETCH__CONCURRENCY")
    assert found["parse.concurrency"] == ("3", "pyproject.toml [tool.flowq.pipelines.scrape.stages.parse]")
    assert found["parse.retry.attempts"] == ("8", "pyproject.toml [tool.flowq.pipelines.scrape.stages.parse]")
    assert found["parse.retry.base"] == ("0.5s", "built-in")
    assert found["store.retry.max"] == ("300s", "env FLOWQ_SCRAPE__STORE__RETRY__MAX")
    assert found["store.concurrency"] == ("10", "built-in")
    assert found["fetch.maxsize"][0] == "2,500"
    assert found["fetch.maxsize"][1].startswith("@stage pipelines/scrape.py:")
    value, origin = found["fetch.dedup"]
    assert value == "url"
    assert origin.startswith("@stage pipelines/scrape.py:")


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:sesame@db.example.org:6379/0",
        "redis://:sesame@db.example.org",
        "redis://db.example.org/0?password=sesame&db=1",
        "rediss+sentinel://app:sesame@one:26379,two:26379/main?sentinel_password=sesame",
    ],
)
def test_no_password_is_ever_shown(project: Project, url: str) -> None:
    for arguments in (("config", "--origin"), ("config", "--json"), ("status", "scrape"), ("doctor",)):
        done = project.flowq(*arguments, FLOWQ_REDIS_URL=url)
        assert "sesame" not in done.stdout + done.stderr, arguments
    assert "***" in project.flowq("config", FLOWQ_REDIS_URL=url).stdout


def test_a_setting_that_does_not_exist_is_one_clear_line(project: Project) -> None:
    in_file = project.flowq("config", FLOWQ_WORKER="2")
    project.write("pyproject.toml", "[tool.flowq]\nworkres = 2\n")
    in_environment = project.flowq("config")

    for done in (in_file, in_environment):
        assert done.returncode == 2
        assert "did you mean" in done.stderr
        assert done.stdout == ""


def test_what_is_set_for_a_stage_is_drawn_and_checked(project: Project) -> None:
    assert "×3  retry 8" in project.flowq("graph", "scrape").stdout
    wrong = project.flowq("check", "scrape", FLOWQ_SCRAPE__PARSE__LINGER="1s")

    assert wrong.returncode == 2
    assert "linger has no effect without batch" in wrong.stderr
    assert "parse.linger = 1s    env FLOWQ_SCRAPE__PARSE__LINGER" in wrong.stderr


def test_the_table_leaves_the_origin_out_unless_asked_for(project: Project) -> None:
    assert "from" not in project.flowq("config").stdout.splitlines()[0]
    assert "from" in project.flowq("config", "--origin").stdout.splitlines()[0]


def test_the_root_of_the_project_is_shown_with_its_file(project: Project) -> None:
    assert settings(project)["root"] == (str(project.folder), str(project.folder / "pyproject.toml"))


# Completion


def completed(project: Project, line: str) -> list[str]:
    """What bash would offer for the last word."""
    words = line.split(" ")
    variables = {"_FLOWQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return project.flowq(**variables).stdout.split()


def test_pipelines_and_stages_are_completed_without_running_any_code_of_theirs(project: Project) -> None:
    project.write("scrape", SCRAPE + "\n    raise SystemExit('imported')\n")

    assert completed(project, "flowq run sc") == ["scrape"]
    assert completed(project, "flowq dlq ls scrape --stage ") == ["seeds", "fetch", "parse", "store"]
    assert completed(project, "flowq dlq ls scrape --stage fetch,p") == ["fetch,parse"]
    assert completed(project, "flowq push scrape.f") == ["scrape.fetch"]
    assert completed(project, "flowq run scrape --workers 4 -s ") == ["seeds", "fetch", "parse", "store"]
    assert completed(project, "flowq run scrape -s fetch -x p") == ["parse"]
    assert completed(project, "flowq run scrape -c ") == ["fetch=", "parse=", "store="]
    assert completed(project, "flowq run scrape --set s") == ["store."]
    assert completed(project, "flowq run scrape --set fetch.retry.a") == ["fetch.retry.attempts="]
    assert completed(project, "flowq peek scrape.p") == ["scrape.parse"]
    assert completed(project, "flowq try scrape.parse page.json --to s") == ["seeds", "store"]
    assert completed(project, "flowq replay scrape --from p") == ["parse"]


def test_a_file_that_does_not_parse_completes_nothing(project: Project) -> None:
    project.write("scrape", "def (")

    assert completed(project, "flowq dlq ls scrape --stage ") == []
