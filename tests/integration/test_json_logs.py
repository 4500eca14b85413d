"""`--log-format json`: one object a line, which names the pipeline, the stage and the message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

PIPELINE = """
from __future__ import annotations
import logging
from collections.abc import Iterator
from pathlib import Path
from flowq import Context, Pipeline, Retry, source, stage

log = logging.getLogger("shop")
log.warning("imported")

@source
def numbers() -> Iterator[int]: yield from range(3)

@stage
async def on_loop(number: int, ctx: Context) -> int:
    log.warning("seen %d", number, extra={"number": number, "its_id": ctx.message_id, "path": Path("a")})
    return number

@stage
def in_thread(number: int, ctx: Context) -> int:
    log.warning("in a thread", extra={"its_id": ctx.message_id})
    return number

@stage(batch=3, linger=60.0, retry=Retry(attempts=1))
async def together(numbers: list[int]) -> None:
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("of %d\\nlines", len(numbers))

lab = Pipeline("lab", numbers >> on_loop >> in_thread >> together)
"""


pytestmark = pytest.mark.project({"lab": PIPELINE})


def lines(done: FlowqProcess) -> list[dict[str, Any]]:
    assert done.wait() == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_each_line_of_a_handler_names_its_stage_and_its_message(project: Project, workers: str) -> None:
    found = lines(project.run("run", "lab", "--log-format", "json", "--workers", workers))

    seen = [line for line in found if line.get("stage") in ("on_loop", "in_thread")]
    assert len(seen) == 6
    assert all(line["message_id"] == line["its_id"] for line in seen)
    assert {line["pipeline"] for line in found} == {"lab"}
    assert {(line["message"], line["number"], line["path"]) for line in seen if line["stage"] == "on_loop"} == {
        (f"seen {n}", n, "PosixPath('a')") for n in range(3)
    }


def test_an_error_stays_on_one_line_and_a_batch_tells_its_size(project: Project) -> None:
    found = lines(project.run("run", "lab", FLOWQ_LOG_FORMAT="json"))

    (failed,) = [line for line in found if line.get("stage") == "together"]
    assert failed["message"] == "of 3\nlines"
    assert failed["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in failed["traceback"]
    assert failed["batch"] == 3
    assert failed["level"] == "error"
    assert ["stage" in line for line in found if line["message"] == "imported"] == [False, False]  # in both processes


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_what_the_run_itself_says_is_a_log_line_as_well(project: Project, quiet: tuple[str, ...]) -> None:
    found = lines(project.run("run", "lab", "--log-format", "json", "--metrics", ":0", *quiet))

    said = [line for line in found if line["logger"] == "flowq.run"]
    assert said[-1]["message"] == "drained"
    assert said[-1]["summary"]["stages"]["together"]["ok"] == 3
    assert [line["message"].startswith("metrics at http://127.0.0.1:") for line in said].count(True) == 1
    assert any("all 4 stages" in line["message"] for line in said) is not bool(quiet)


def test_an_unknown_format_is_refused_with_the_known_ones(project: Project) -> None:
    done = project.run("run", "lab", "--log-format", "xml")

    assert done.wait() == 2
    assert "'text', 'json'" in done.stderr
