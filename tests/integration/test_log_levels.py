"""`--log-level`, and what log lines of handlers say of their messages, wherever the handler runs."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.project import Project

PIPELINE = """
import asyncio
import logging
from collections.abc import Iterator
from flowq import Context, Pipeline, Retry, RetryLater, source, stage

CONFIGURED
log = logging.getLogger("shop")

def say(ctx_or_none: object, text: str) -> None:
    log.info("%s says of %s", text, getattr(ctx_or_none, "message_id", "?"))
    logging.getLogger("shop.details").debug("%s in detail", text)

@source
def numbers() -> Iterator[int]:
    yield 7

@stage
async def on_loop(n: int, ctx: Context) -> None:
    async def part() -> None:
        await asyncio.sleep(0)
        say(ctx, "task")
    async with asyncio.TaskGroup() as group:
        group.create_task(part())
    say(ctx, "loop")

@stage(retry=Retry(attempts=2))
def in_thread(n: int, ctx: Context) -> None:
    if ctx.attempt == 1:
        raise RetryLater("again", after=0.01)
    say(ctx, "thread")

@stage(process=True)
def in_process(n: int) -> None:
    say(None, "process")

@stage(batch=5)
async def batches(numbers: list[int]) -> None:
    say(None, "batch")

STAGES = (on_loop, in_thread, in_process, batches)
lab = Pipeline("lab", *(numbers >> each for each in STAGES))
"""
STAGE_OF = {"task": "on_loop", "loop": "on_loop", "thread": "in_thread", "process": "in_process", "batch": "batches"}
LINE = re.compile(r"[\d:]{8} INFO shop: (\w+) says of (\S+)  \((\w+) (\S+), attempt (\d)\)")


ALL = "(on_loop, in_thread, in_process, batches)"


def stderr_of(
    project: Project, *arguments: str, configured: str = "", stages: str = "(on_loop,)", **variables: str
) -> str:
    project.write("lab", PIPELINE.replace("CONFIGURED", configured).replace(ALL, stages))
    return project.ok("run", "lab", *arguments, **variables).stderr


@pytest.mark.parametrize("arguments", [("--workers", "0"), ("--workers", "1")], ids=["in this process", "in a worker"])
def test_lines_of_handlers_name_stage_message_and_attempt(arguments: tuple[str, ...], project: Project) -> None:
    stderr = stderr_of(project, *arguments, "--log-level", "info", stages=ALL)

    found = [LINE.fullmatch(line) for line in stderr.splitlines() if "says of" in line]
    said = {match[1]: match.groups()[1:] for match in found if match}
    assert {text: stage for text, (_, stage, _, _) in said.items()} == STAGE_OF
    assert all(its_id in (message_id, "?") for its_id, _, message_id, _ in said.values())
    assert {text: attempt for text, (*_, attempt) in said.items() if attempt != "1"} == {"thread": "2"}
    assert "in detail" not in stderr


def test_with_json_the_same_is_in_fields(project: Project) -> None:
    stderr = stderr_of(project, stages=ALL, FLOWQ_LOG_LEVEL="info", FLOWQ_LOG_FORMAT="json")

    lines = [json.loads(line) for line in stderr.splitlines()]
    said = [line for line in lines if "says of" in line["message"]]
    assert {line["message"].split()[0]: line["stage"] for line in said} == STAGE_OF
    assert {line["attempt"] for line in said if line["stage"] == "in_thread"} == {2}
    assert {line["pipeline"] for line in said} == {"lab"}


@pytest.mark.parametrize(
    ("given", "shop", "details"),
    [
        (("--log-level", "info"), True, False),
        (("--log-level", "INFO,shop.details=debug"), True, True),
        (("--log-level", "debug", "--log-level", "shop.details=info"), True, False),
        (("--log-level", "error,shop=info"), True, False),
        (("--log-level", "debug,shop=error"), False, False),
        ((), False, False),
    ],
)
def test_a_level_holds_for_all_or_for_one_logger(
    given: tuple[str, ...], shop: bool, details: bool, project: Project
) -> None:
    stderr = stderr_of(project, "--memory", *given)

    assert ("says of" in stderr, "in detail" in stderr) == (shop, details)


@pytest.mark.parametrize("configured", ["logging.basicConfig(level='ERROR')", ""])
def test_the_flag_is_stronger_than_what_the_program_configures(configured: str, project: Project) -> None:
    stderr = stderr_of(project, "--memory", "--log-level", "shop=info", configured=configured)

    assert "task says of" in stderr


@pytest.mark.parametrize("command", ["run", "exporter"])
def test_a_level_that_is_none_is_refused_before_anything_starts(command: str, project: Project) -> None:
    project.write("lab", PIPELINE.replace("CONFIGURED", ""))

    flag, variable = ("--log-level", "wraning"), {"FLOWQ_LOG_LEVEL": "wraning"}
    for done in (project.run(command, "lab", *flag), project.run(command, "lab", **variable)):
        assert done.wait() == 2
        assert 'there is no level "wraning"    did you mean "warning"?' in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("error,asyncio=debug", True), ("info", False)])
def test_the_exporter_has_the_same_flag(level: str, shown: bool, project: Project) -> None:
    exporter = project.start("exporter", "--listen", "0", "--log-level", level)
    exporter.wait_for(lambda: "/metrics" in exporter.stderr)

    assert ("DEBUG asyncio: " in exporter.stderr) == shown
