"""The user's `logging` configuration applies, nothing is printed twice, and the balance is always printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.project import Project

PIPELINE = """
import logging
import logging.config
from collections.abc import Iterator

from flowq import Pipeline, resource, source, stage, use

CONFIGURED
log = logging.getLogger("shop")

@resource
def opened() -> Iterator[int]:
    LATER
    yield 1

@source
def numbers() -> Iterator[int]:
    yield 7

@stage
def take(n: int, one: int = use(opened)) -> None:
    log.info("fine %d", n)
    log.warning("look at %d", n)

lab = Pipeline("lab", numbers >> take)
"""
BASIC = 'logging.basicConfig(level=logging.INFO, format="MINE %(levelname)s %(message)s")'
ROOT = """logging.config.dictConfig({
    "version": 1,
    "formatters": {"mine": {"format": "MINE %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "mine"}},
    "root": {"level": "INFO", "handlers": ["console"]},
})"""
NAMED = ROOT.replace('"root": {', '"loggers": {"shop": {').replace('["console"]},', '["console"]}},')
TO_A_FILE = ROOT.replace('"class": "logging.StreamHandler"', '"class": "logging.FileHandler", "filename": "mine.log"')


def told(project: Project, configured: str, *flags: str, later: str = "pass") -> list[str]:
    text = PIPELINE.replace("CONFIGURED", configured).replace("    LATER", f"    {later}")
    (project.folder / "pipelines" / "lab.py").write_text(text, encoding="utf-8")
    run = project.ok("run", "lab", "-q", *flags)
    return run.stderr.splitlines()


@pytest.mark.parametrize("flags", [("--memory",), ("--workers", "1")])
@pytest.mark.parametrize("configured", [BASIC, ROOT, NAMED], ids=["basicConfig", "dictConfig", "one logger"])
def test_what_the_user_configures_at_import_holds_and_nothing_is_printed_twice(
    configured: str, flags: tuple[str, ...], project: Project
) -> None:
    lines = told(project, configured, *flags)

    about = [line for line in lines if line.endswith(" 7")]
    assert about == ["MINE INFO fine 7", "MINE WARNING look at 7"]
    assert any("drained" in line for line in lines)


def test_what_the_user_configures_when_a_resource_opens_holds_as_well(project: Project) -> None:
    lines = told(project, "", "--memory", later=BASIC)
    assert [line for line in lines if line.endswith(" 7")] == ["MINE INFO fine 7", "MINE WARNING look at 7"]


def test_without_any_configuration_warnings_are_printed_once(project: Project) -> None:
    lines = told(project, "", "--memory")
    (line,) = [line for line in lines if " 7" in line and "take" in line]
    assert "WARNING shop: look at 7  (take " in line


@pytest.mark.parametrize("configured", [BASIC, ROOT, NAMED, "", 'logging.warning("text")'])
def test_with_json_each_line_is_an_object_and_stands_there_once(configured: str, project: Project) -> None:
    lines = told(project, configured, "--memory", "--log-format", "json")

    objects = [json.loads(line) for line in lines if line != "WARNING:root:text"]
    messages = [found["message"] for found in objects]
    assert messages.count("look at 7") == 1
    assert messages.count("fine 7") == (1 if "INFO" in configured else 0)
    assert objects[-1]["summary"]["drained"] is True


@pytest.mark.parametrize("flags", [(), ("--log-format", "json")])
def test_silencing_standard_error_does_not_silence_the_balance(flags: tuple[str, ...], project: Project) -> None:
    silent = TO_A_FILE + "\nlogging.disable(logging.CRITICAL)"
    lines = told(project, silent, "--memory", *flags)
    assert any("drained" in line for line in lines)
    lines = told(project, TO_A_FILE, "--memory", *flags)
    assert not [line for line in lines if "look at 7" in line]
    assert "MINE WARNING look at 7" in (project.folder / "mine.log").read_text(encoding="utf-8")


ODD = """
log = logging.getLogger("odd")
class Unshowable:
    def __repr__(self): raise ValueError
class Mute(Exception):
    def __str__(self): raise ValueError
log.warning("too large", extra={"n": 2**70, "huge": 10**5000})
log.warning("no Unicode \\udcfc", extra={"name_of_it": "B\\udcfccher", "not_a_number": float("nan")})
log.warning("cannot be shown", extra={"it": Unshowable()})
endless = []; endless.append(endless)
log.warning("endless", extra={"it": endless})
log.warning("wrong %d", "args")
for error in (ValueError(), Mute(), ValueError("B\\udcfccher")):
    try: raise error
    except Exception: log.exception("raised")
log.warning("with stack", stack_info=True)
"""


def test_no_json_line_is_lost_whatever_is_logged(project: Project) -> None:
    lines = told(project, ODD, "--memory", "--log-format", "json")

    objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
    by_message = {found["message"]: found for found in objects}
    assert by_message["too large"]["n"] == 2**70
    assert by_message["too large"]["huge"] == hex(10**5000)
    assert by_message["no Unicode \\udcfc"]["name_of_it"] == "B\\udcfccher"
    assert by_message["cannot be shown"]["it"] == "Unshowable (cannot be shown)"
    assert "endless" in by_message
    assert "'wrong %d' with ('args',)" in by_message
    assert "stack" in by_message["with stack"]
    errors = [found["error"] for found in objects if found["message"] == "raised"]
    assert errors == ["ValueError", "Mute: its __str__ fails", "ValueError: B\\udcfccher"]
