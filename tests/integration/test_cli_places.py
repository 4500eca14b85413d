"""`flowq` from any folder: -C, subfolders, and hints that work when they are typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.integration.project import Project

# The name of the pipeline is not that of its file; of four numbers one dies.
FLOWS = """
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from flowq import Pipeline, Rate, Reject, source, stage


    class Item(BaseModel):
        n: int
        host: str = "a b"


    @source
    def numbers() -> Iterator[Item]:
        for n in range(4):
            yield Item(n=n)


    @stage(keep=100, rate=Rate(10_000, by="host"))
    def parse(item: Item) -> Item:
        if item.n == 3:
            raise Reject("three")
        return item


    @stage
    def store(item: Item) -> None:
        with Path("stored").open("a") as file:
            file.write(f"{item.n} ")


    flow = Pipeline("orders", numbers >> parse >> store)
"""
FOLDER = "my shop"
_WORD = r"(?:'[^']*'|[^\s();'][^\s();]*)"
HINT = re.compile(rf"flowq(?: -C {_WORD})? [a-z]+(?: {_WORD})*?(?=  |\)|;|$| shows| removes| puts)", re.MULTILINE)

pytestmark = pytest.mark.project({}, redis="debian", COLUMNS="200")


@pytest.fixture
def shop(project: Project) -> Project:
    """The folder above a project, from where commands are typed."""
    project.write(f"{FOLDER}/pipelines/flows.py", FLOWS)
    project.write(f"{FOLDER}/pyproject.toml", "[tool.flowq]\nlease = 2\n")
    (project.folder / FOLDER / "deep" / "er").mkdir(parents=True)
    (project.folder / "bin").mkdir()
    typed = project.folder / "bin" / "flowq"
    typed.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m flowq "$@"\n')
    typed.chmod(0o755)
    project.variables["PATH"] = f"{typed.parent}:{os.environ['PATH']}"
    return project


def type_in(shop: Project, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        cwd=shop.folder,
        env=shop.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_hint_works_as_it_is_printed_where_the_command_was_typed(shop: Project) -> None:
    commands = [
        "run orders", "status orders", "dlq ls orders", "dlq show orders 1", "graph odrers",
        "pause orders", "status", "resume orders", "pause orders.parse --key 'host=a b'", "pause orders.parse",
        """push orders.parse '{"n": 9}'""", "purge orders.parse", "replay orders --from parse", "dlq rm orders",
        "graph orders --live -o x.svg", "trace orders nothing",
    ]  # fmt: skip
    typed = set[str]()
    for command in commands:
        type_hints_of(command, shop, typed)
    shop.write(f"{FOLDER}/pipelines/flows.py", FLOWS.replace("parse", "extract"))
    for command in ("status orders", "run orders --drain", "plan orders", "gc orders"):
        type_hints_of(command, shop, typed)

    words = {" ".join(hint.split()[:2]) for hint in typed}
    assert words >= {"dlq ls", "dlq show", "dlq retry", "resume orders.parse", "plan orders", "run orders", "ls"}


def type_hints_of(command: str, shop: Project, typed: set[str]) -> None:
    """Type all hints that a command prints, except those typed before and those with something to fill in."""
    begins = f"flowq -C '{FOLDER}' "
    done = type_in(shop, begins + command)
    for hint in reversed(HINT.findall(done.stdout + done.stderr)):  # what shows a letter before what retries it
        assert hint.startswith(begins), (command, hint)
        if hint.removeprefix(begins) in typed or re.search(r"\b(NAME|OLD=NEW|FILE|COMMAND)\b", hint):
            continue
        typed.add(hint.removeprefix(begins))
        worked = type_in(shop, hint)
        assert worked.returncode in (0, 1, 3), (command, hint, worked.stderr)


def test_workers_and_files_are_where_the_folder_says(shop: Project) -> None:
    ran = shop.run("-C", FOLDER, "run", "orders", "--workers", "2", "--json")
    assert (ran.wait(), ran.summary["stages"]["store"]["ok"]) == (3, 3), ran.stderr
    assert sorted((shop.folder / FOLDER / "stored").read_text().split()) == ["0", "1", "2"]

    assert shop.flowq("-C", FOLDER, "-C", "deep", "graph", "orders", "-o", "x.svg").returncode == 0
    assert (shop.folder / FOLDER / "deep" / "x.svg").exists()
    (shop.folder / FOLDER / "items").write_text('{"n": 1}\n')
    assert shop.flowq("-C", FOLDER, "push", "orders.parse", "@items").returncode == 0
    assert not (shop.folder / ".flowq").exists()


def test_all_commands_work_in_a_subfolder(shop: Project) -> None:
    shop.folder = shop.folder / FOLDER / "deep" / "er"
    assert shop.flowq("run", "orders").returncode == 3
    assert [row["name"] for row in json.loads(shop.flowq("ls", "--json").stdout)] == ["orders"]
    for words in ("status", "check", "graph orders", "plan orders", "dlq ls orders", "pause orders", "resume orders"):
        done = shop.flowq(*words.split())
        assert done.returncode == 0, done.stderr
    assert json.loads(shop.flowq("status", "orders", "--json").stdout)["stages"]["store"]["ok"] == 3


def test_files_of_the_current_folder_replace_no_module_of_python(shop: Project) -> None:
    shop.write(f"{FOLDER}/pipelines/queue.py", "raise RuntimeError('imported by its short name, and not at all')\n")

    ran = type_in(shop, f"cd '{FOLDER}/pipelines' && flowq run orders --quiet")

    assert (ran.returncode, "stored" in ran.stderr, "RuntimeError" in ran.stderr) == (3, True, False), ran.stderr


@pytest.mark.parametrize(("start", "there"), [(".", FOLDER), ("plain/deep", "..")], ids=["below", "above"])
def test_a_pipeline_that_is_above_or_below_is_found_by_typing_the_hint(start: str, there: str, shop: Project) -> None:
    shop.write("plain/pipelines/flows.py", FLOWS) if there == ".." else None
    shop.folder = shop.folder / start
    shop.folder.mkdir(parents=True, exist_ok=True)

    for command in ("graph orders", "status orders", "ls", "status"):
        done = shop.flowq(*command.split())
        (hint,) = HINT.findall(done.stderr.replace("(flowq ls)", ""))
        assert hint == f"flowq -C {there if there == '..' else repr(there)} {command}"
        typed = type_in(shop, hint)
        assert (typed.returncode, "orders" in typed.stdout or "numbers" in typed.stdout) == (0, True), typed.stderr


def test_the_folder_must_be_there_and_come_before_the_command(shop: Project) -> None:
    missing, behind = shop.flowq("-C", "nowhere", "ls"), shop.flowq("ls", "-C", FOLDER)

    assert (missing.returncode, missing.stderr.splitlines()[0]) == (
        2,
        "error[FQ200]: -C nowhere: No such file or directory",
    )
    assert (behind.returncode, "before the command:  flowq -C FOLDER ls" in behind.stderr) == (2, True)


def test_completion_looks_into_the_folder(shop: Project) -> None:
    variables = {"_FLOWQ_COMPLETE": "complete_bash", "COMP_CWORD": "4"}
    words = {"COMP_WORDS": f"flowq -C '{FOLDER}' status "}

    assert shop.flowq(**variables, **words).stdout.split() == ["orders"]
