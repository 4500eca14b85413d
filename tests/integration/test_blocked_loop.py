"""A handler that blocks the event loop is named while it blocks, and nothing else is."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

BLOCKING = """
import asyncio
import ctypes
import hashlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from flowq import Pipeline, resource, source, stage, use

def until_the_file_is_there() -> None:
    while not Path("go").exists():
        time.sleep(0.05)  # the line that hangs

def until_computed() -> None:
    while not Path("go").exists():
        json.dumps(list(range(1000)))

@source
def one() -> Iterator[int]:
    yield 1

@source
async def blocking_source() -> AsyncIterator[int]:
    until_the_file_is_there()
    yield 1

@resource
def slow_to_open() -> Iterator[int]:
    until_the_file_is_there()
    yield 1

@stage
async def sleeping(n: int) -> None:
    until_the_file_is_there()

@stage
async def computing(n: int) -> None:
    until_computed()

@stage(inline=True)
def inline(n: int) -> None:
    until_the_file_is_there()

@stage(batch=10)
async def batches(numbers: list[int]) -> None:
    until_the_file_is_there()

@stage
async def in_a_task(n: int) -> None:
    async def part() -> None:
        until_the_file_is_there()
    async with asyncio.TaskGroup() as group:
        group.create_task(part())

@stage
async def opening(n: int, opened: int = use(slow_to_open)) -> None: ...

@stage
async def nothing(n: int) -> None: ...

@stage
def in_a_thread(n: int) -> None:
    until_the_file_is_there()

@stage
async def yielding(n: int) -> None:
    Path("running").touch()
    while not Path("go").exists():
        await asyncio.sleep(0)

@stage
async def holding_the_lock(n: int) -> None:
    ctypes.PyDLL(None).sleep(4)

@stage
async def waiting_for_a_core(n: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # this thread alone, and what it starts
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    os.setpriority(os.PRIO_PROCESS, 0, 10)
    began_at, had_at = time.monotonic(), time.thread_time()
    while (waited := time.monotonic() - began_at - (had := time.thread_time() - had_at)) < 3 and had < 1.5:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000)  # lets go of the interpreter's lock
    busy.kill()
    busy.wait()
    Path("waited").write_text(str(waited))

lab = Pipeline("lab", SOURCE >> STAGE)
"""
LIBRARY = """
import time
from pathlib import Path

def get():
    while not Path("go").exists():
        time.sleep(0.05)
"""
HANGS = "time.sleep(0.05)  # the line that hangs"
WARNED = "blocks the event loop"
LONG_STOP_SECONDS = 3.0
OF_THIS_THREAD = Path("/proc/thread-self/schedstat")


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(BLOCKING.splitlines(), 0) if text in line)


def started(project: Project, stage: str, *arguments: str, source: str = "one", **variables: str) -> FlowqProcess:
    project.write("lab", BLOCKING.replace("SOURCE", source).replace("STAGE", stage))
    return project.start("run", "lab", *arguments, **variables)


def warned_while_it_blocks(project: Project, run: FlowqProcess) -> str:
    """The warning, which came before what blocks could go on."""
    run.wait_for(lambda: WARNED in run.stderr)
    (project.folder / "go").touch()
    assert run.wait() == 0, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if WARNED in line]
    return line


@pytest.mark.parametrize("arguments", [("--memory",), ("--workers", "1")], ids=["in this process", "in a worker"])
def test_a_handler_that_sleeps_in_the_loop_is_named_and_none_that_sleeps_in_a_thread(
    arguments: tuple[str, ...], project: Project
) -> None:
    run = started(project, "(sleeping | in_a_thread)", *arguments, "--log-format", "json")
    line = json.loads(warned_while_it_blocks(project, run))

    assert line["level"] == "warning"
    assert line["stage"] == "sleeping"
    assert line["place"] == f"pipelines/lab.py:{line_of(HANGS)}"
    assert line["attempt"] == 1
    assert f"sleeping at {line['place']} blocks the event loop, with message {line['message_id']}" in line["message"]
    assert "write `def` instead of `async def`" in line["message"]
    assert "process=True" in line["message"]


DEF = "write `def` instead of `async def`"


def test_whatever_blocks_the_loop_is_named_with_a_remedy(tmp_path: Path) -> None:
    """Each in a process of its own, all at the same time: each must block for two seconds."""
    with ExitStack() as stack:
        runs: dict[str, tuple[Project, FlowqProcess]] = {}
        for name in ("computing", "inline", "batches", "in_a_task", "opening", "blocking_source"):
            project = stack.enter_context(Project(tmp_path / name))
            source, stage = (name, "nothing") if name == "blocking_source" else ("one", name)
            runs[name] = project, started(project, stage, "--memory", source=source)
        lines = {name: warned_while_it_blocks(*run) for name, run in runs.items()}

    for name, who, remedy in (
        ("computing", "computing at ", DEF),
        ("inline", "inline at ", "remove inline=True"),
        ("batches", "batches at ", DEF),
        # Before Python 3.12, a task does not say to which handler it belongs.
        ("in_a_task", *(("in_a_task at ", DEF) if sys.version_info >= (3, 12) else ("", "asyncio.to_thread"))),
        ("opening", "resource slow_to_open at ", "asyncio.to_thread"),
        ("blocking_source", "source blocking_source at ", "write it with `def`"),
    ):
        assert f": {who}pipelines/lab.py:" in lines[name]
        assert remedy in lines[name]


def test_a_library_is_not_to_blame_but_the_users_line_that_calls_it(project: Project) -> None:
    project.write("lib/site-packages/requests_like/__init__.py", LIBRARY)
    calls = BLOCKING.replace("import ctypes", "import ctypes\nimport requests_like").replace(
        HANGS, "requests_like.get()  # the line that hangs"
    )
    project.write("lab", calls.replace("SOURCE", "one").replace("STAGE", "sleeping"))
    run = project.start("run", "lab", "--memory", PYTHONPATH=str(project.folder / "lib" / "site-packages"))

    assert f"sleeping at pipelines/lab.py:{line_of(HANGS) + 1} blocks" in warned_while_it_blocks(project, run)


def test_code_in_c_that_holds_the_interpreter_lock_is_no_reason_for_a_warning(project: Project) -> None:
    run = started(project, "holding_the_lock", "--memory")

    assert run.wait() == 0, run.stderr
    assert WARNED not in run.stderr


@pytest.mark.skipif(not OF_THIS_THREAD.exists(), reason="this system does not say how long a thread waits for a core")
def test_a_handler_that_waits_for_a_core_for_longer_than_it_runs_is_no_reason_for_a_warning(project: Project) -> None:
    run = started(project, "waiting_for_a_core", "--memory")

    assert run.wait() == 0, run.stderr
    assert float((project.folder / "waited").read_text()) >= 3
    assert WARNED not in run.stderr


def test_a_process_that_was_stopped_and_goes_on_has_not_blocked_anything(project: Project) -> None:
    run = started(project, "yielding", "--memory")
    run.wait_for((project.folder / "running").exists)
    run.popen.send_signal(signal.SIGSTOP)
    time.sleep(LONG_STOP_SECONDS)
    run.popen.send_signal(signal.SIGCONT)
    (project.folder / "go").touch()

    assert run.wait() == 0, run.stderr
    assert WARNED not in run.stderr
