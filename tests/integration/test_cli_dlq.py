"""`flowq status` and `flowq dlq` as a user types them, on a real server without a worker."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import flowq
from flowq import Pipeline
from tests.integration.project import Project

PIPELINE = """
from __future__ import annotations
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Pipeline, Reject, Retry, source, stage

class Row(BaseModel):
    line: int
    dest: str

@source
def rows() -> Iterator[Row]:
    for line in range(30):
        yield Row(line=line, dest=("SJU", "BQN", "JFK")[line % 3])

@stage
async def validate(row: Row) -> Row:
    return row

@stage(retry=Retry(attempts=2, base=0.001))
async def enrich(row: Row) -> Row:
    if row.dest == "SJU":
        raise Reject(f"unknown airport {row.dest}")
    if row.line == 4:
        raise ValueError("\\x1b[2J[red]wiped[/red]\\u202e")
    return row

@stage
async def load(row: Row) -> None: ...

flights = Pipeline("flights", rows >> validate >> enrich >> load)
"""

Flowq = Callable[..., "subprocess.CompletedProcess[str]"]


pytestmark = pytest.mark.project({"flights": PIPELINE}, redis="debian", COLUMNS="100")


@pytest.fixture
def cli(project: Project) -> Flowq:
    return project.flowq


@pytest.fixture
def drained(project: Project) -> None:
    """The pipeline has run: of 30 rows 10 were rejected and 1 failed twice."""
    spec = importlib.util.spec_from_file_location("flights_under_test", project.folder / "pipelines" / "flights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations are looked up
    try:
        spec.loader.exec_module(module)
        pipeline: Pipeline = module.flights
        namespace, redis = project.variables["FLOWQ_NAMESPACE"], project.variables["FLOWQ_REDIS_URL"]
        summary = asyncio.run(flowq.run(pipeline, redis=redis, namespace=namespace))
    finally:
        del sys.modules[spec.name]
    assert summary.dead == 11


def printed_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("drained")
def test_since_longer_ago_than_there_is_time_means_ever(cli: Flowq) -> None:
    assert cli("dlq", "ls", "flights", "--since", "99999999d").stdout == cli("dlq", "ls", "flights").stdout != ""


# status

COUNTED = ["in", "ok", "filtered", "dead", "waiting", "delayed", "running", "retries", "dup", "out"]


def table(lines: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table as wide as it likes, where cells have two spaces between them: title to cell."""
    titles, *rows = (re.split(r" {2,}", line.strip()) for line in lines)
    return [dict(zip(titles, row, strict=True)) for row in rows]


def test_status_of_a_pipeline_that_never_ran_is_all_zeros(cli: Flowq) -> None:
    done = cli("status", "flights", COLUMNS="200")

    assert done.returncode == 0, done.stderr
    headline, *lines = done.stdout.rstrip().splitlines()
    assert headline.split() == ["flights", "never", "run", "no", "workers"]
    idle = {"cause": "○ idle"}
    source = dict.fromkeys(COUNTED, "-") | idle | {"stage": "rows", "ok": "0", "out": "0", "memory": "-"}
    nothing = dict.fromkeys(COUNTED, "0") | idle | {"memory": "0 B"}
    assert table(lines) == [source, *(nothing | {"stage": stage} for stage in ("validate", "enrich", "load"))]


@pytest.mark.usefixtures("drained")
def test_status_shows_each_stage_without_any_worker(cli: Flowq) -> None:
    headline, *lines, retried, last = cli("status", "flights", COLUMNS="200").stdout.splitlines()

    assert headline.startswith("flights  drained  no workers  run ")
    stages = table(lines)
    assert [[row["stage"], *(row[title] for title in COUNTED)] for row in stages] == [
        ["rows", "-", "30", "-", "-", "-", "-", "-", "-", "-", "30"],
        ["validate", "30", "30", "0", "0", "0", "0", "0", "0", "0", "30"],
        ["enrich", "30", "19", "0", "11", "0", "0", "0", "1", "0", "19"],
        ["load", "19", "19", "0", "0", "0", "0", "0", "0", "0", "0"],
    ]
    assert [row["rate"] for row in stages] == ["done", "-", "-", "-"]
    assert all(re.fullmatch(r"[\d.]+ k?B", row["memory"]) for row in stages[1:])
    assert not {"purged", "oldest", "workers"} & stages[0].keys()
    assert re.fullmatch(r" enrich  \w+: .*  1 retry", retried)
    assert last.split() == ["11", "dead", "letters", "flowq", "dlq", "ls", "flights"]


@pytest.mark.usefixtures("drained")
def test_status_as_json_adds_up_and_says_who_is_there(cli: Flowq) -> None:
    status = printed_json(cli("status", "flights", "--json"))

    assert (status["pipeline"], status["state"], status["left"], status["workers"]) == ("flights", "drained", 0, [])
    for numbers in status["stages"].values():
        settled = numbers["ok"] + numbers["filtered"] + numbers["dead"]
        assert numbers["in"] == settled + numbers["waiting"] + numbers["delayed"] + numbers["running"]
    assert status["stages"]["enrich"]["dead_letters"] == 11


def test_status_without_a_name_shows_all_pipelines_and_names_the_broken_ones(project: Project, cli: Flowq) -> None:
    source = (project.folder / "pipelines" / "flights.py").read_text()
    (project.folder / "pipelines" / "trains.py").write_text(source.replace("flights", "trains"))
    (project.folder / "pipelines" / "broken.py").write_text("import no_such_module")

    done = cli("status", "--json")

    assert [found["pipeline"] for found in printed_json(done)] == ["flights", "trains"]
    assert "broken" in done.stderr


# dlq ls


@pytest.mark.usefixtures("drained")
def test_ls_groups_dead_letters_by_stage_and_error(cli: Flowq) -> None:
    done = cli("dlq", "ls", "flights")

    lines = done.stdout.splitlines()
    assert lines[0].split() == ["n", "stage", "error", "place", "count", "first", "last", "kind"]
    assert lines[1].split()[:6] == ["1", "enrich", "Reject:", "unknown", "airport", "SJU"]
    assert re.fullmatch(r"flights\.py:\d+", lines[1].split()[6])
    assert lines[1].split()[7] == "10"
    assert "flowq dlq show flights 1" in lines[-1]
    groups = printed_json(cli("dlq", "ls", "flights", "--json"))
    assert [group["count"] for group in groups] == [10, 1]
    assert all(group["first_died_at"].endswith("Z") for group in groups)


@pytest.mark.usefixtures("drained")
def test_what_an_error_says_cannot_reach_the_terminal_as_code(cli: Flowq) -> None:
    for shown in (
        cli("dlq", "ls", "flights", COLUMNS="120"),
        cli("dlq", "ls", "flights", "--json"),
        cli("dlq", "show", "flights", "--error", "ValueError*"),
        cli("dlq", "show", "flights", "--error", "ValueError*", "--json"),
    ):
        assert shown.returncode == 0, shown.stderr
        assert "\x1b" not in shown.stdout
        assert "\u202e" not in shown.stdout
        assert "[red]wiped[/red]" in shown.stdout


def test_ls_of_nothing_says_so(cli: Flowq) -> None:
    assert cli("dlq", "ls", "flights").stdout == "no dead letters\n"
    assert printed_json(cli("dlq", "ls", "flights", "--json")) == []


# dlq show


@pytest.mark.usefixtures("drained")
def test_show_tells_what_happened_to_the_message_and_where(cli: Flowq) -> None:
    done = cli("dlq", "show", "flights", "--error", "ValueError*")

    assert done.returncode == 0, done.stderr
    assert "pipelines/flights.py:24 in enrich" in done.stdout
    fields = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert fields["line"] == "4"
    assert fields["dest"] == '"BQN"'
    assert fields["reason"] == "attempts exhausted, attempt 2"
    assert fields["edge"] == "validate>enrich"
    assert "Traceback (most recent call last):" in done.stdout


@pytest.mark.usefixtures("drained")
def test_show_finds_a_letter_by_number_by_its_id_and_by_that_of_its_message(cli: Flowq) -> None:
    third = printed_json(cli("dlq", "show", "flights", "3", "--json"))

    assert printed_json(cli("dlq", "show", "flights", third["id"], "--json")) == third
    assert printed_json(cli("dlq", "show", "flights", third["message_id"], "--json")) == third
    assert third["message"]["dest"] in ("SJU", "BQN")


@pytest.mark.usefixtures("drained")
def test_the_number_in_the_list_shows_the_first_letter_of_its_group(cli: Flowq) -> None:
    groups = printed_json(cli("dlq", "ls", "flights", "--json"))

    for group in groups:
        letter = printed_json(cli("dlq", "show", "flights", str(group["position"]), "--json"))
        assert (letter["error"], letter["died_at"]) == (group["error"], group["first_died_at"])


@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize("which", ["12", "0", "nobody"])
def test_a_letter_that_is_not_there_is_not_found(cli: Flowq, which: str) -> None:
    done = cli("dlq", "show", "flights", which)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"has no dead letter {which}" in done.stderr


# dlq retry


@pytest.mark.usefixtures("drained")
def test_retry_puts_back_what_is_chosen_and_a_second_time_nothing(cli: Flowq) -> None:
    assert (
        "10 dead letters would go back to enrich"
        in cli("dlq", "retry", "flights", "--error", "*SJU", "--dry-run").stdout
    )

    done = cli("dlq", "retry", "flights", "--error", "*SJU")

    assert done.stdout == "10 dead letters put back to enrich\n"
    assert done.stderr == "no worker is running:  flowq run flights --drain -x rows\n"
    assert printed_json(cli("dlq", "retry", "flights", "--error", "*SJU", "--json")) == {}
    enrich = printed_json(cli("status", "flights", "--json"))["stages"]["enrich"]
    assert (enrich["dead"], enrich["waiting"], enrich["dead_letters"]) == (1, 10, 1)


@pytest.mark.usefixtures("drained")
def test_retry_of_ids_is_all_or_nothing(cli: Flowq) -> None:
    letter = printed_json(cli("dlq", "show", "flights", "1", "--json"))

    refused = cli("dlq", "retry", "flights", letter["id"], "nobody")

    assert refused.returncode == 2
    assert "has no dead letter nobody; nothing was changed" in refused.stderr
    assert printed_json(cli("dlq", "retry", "flights", letter["message_id"], "--json")) == {"enrich": 1}


# What goes wrong


@pytest.mark.parametrize(
    "arguments", [["status", "fligths"], ["dlq", "ls", "flights", "--stage", "enrch"], ["dlq", "show"]]
)
def test_a_wrong_name_is_a_usage_error(cli: Flowq, arguments: list[str]) -> None:
    done = cli(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert "error[" in done.stderr


@pytest.mark.parametrize("arguments", [["status", "flights"], ["dlq", "ls", "flights"], ["dlq", "retry", "flights"]])
def test_no_redis_is_exit_code_4(cli: Flowq, arguments: list[str]) -> None:
    done = cli(*arguments, FLOWQ_REDIS_URL="redis://someone:secret@127.0.0.1:1/0")

    assert (done.returncode, done.stdout) == (4, "")
    assert "secret" not in done.stderr
