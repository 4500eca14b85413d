"""What a handler or its machine can do to the interpreter: hold its lock, fork it, and change its clock."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.journal import read_journal
from tests.faults.servers import DurableServer
from tests.integration.project import Project

LEASE_SECONDS = 1.0
HOUR_SECONDS = 3600
RETRY_AFTER_SECONDS = 1.0
PIPELINE = """
    from __future__ import annotations

    import ctypes
    import multiprocessing
    import os
    import time
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from flowq import Context, Pipeline, RetryLater, source, stage


    class Item(BaseModel):
        path: str


    @source
    def items(n: int) -> Iterator[Item]:
        for i in range(n):
            yield Item(path=str(i))


    def note(path: str) -> int:
        with open("runs", "a") as file:
            file.write(f"{path} {time.monotonic()}\\n")
        return Path("runs").read_text().count(f"{path} ")


    def hold_the_lock(seconds: float) -> None:
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))  # PyDLL does not let go of the lock while it is called


    @stage(concurrency=2)
    def hold_once(item: Item) -> Item:
        if note(item.path) == 1:
            hold_the_lock(3.0)
        return item


    @stage(concurrency=2, process=True)
    def hold(item: Item) -> Item:
        note(item.path)
        hold_the_lock(3.0)
        return item


    @stage(concurrency=4)
    def fork(item: Item) -> Item:
        note(item.path)
        if int(item.path) % 2:
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.001,))
            child.start()
            child.join()
        elif os.fork() == 0:
            os._exit(0)
        return item


    @stage
    async def later(item: Item) -> Item:
        if note(item.path) == 1:
            raise RetryLater(after=1.0)
        return item


    @stage
    def store(item: Item) -> None: ...


    odd = Pipeline("odd", items >> {stage} >> store)
"""


@pytest.fixture
def server() -> Iterator[DurableServer]:
    with DurableServer("bundled") as server:
        yield server


@pytest.fixture(autouse=True)
def variables(project: Project, server: DurableServer) -> None:
    project.variables |= {"FLOWQ_REDIS_URL": server.url}


def run(project: Project, stage: str, n: int, *, workers: int, **variables: str) -> None:
    """Run a pipeline around this stage to its end, which must be a good one."""
    project.write("odd", PIPELINE.replace("{stage}", stage))
    options = ("-a", f"n={n}", "--workers", str(workers), "--lease", f"{LEASE_SECONDS:g}s")
    done = project.run("run", "odd", *options, **variables)
    assert done.popen.returncode == 0, done.stderr


def runs_of(project: Project) -> list[tuple[str, float]]:
    """Which message was run, and when."""
    lines = [line.split() for line in (project.folder / "runs").read_text().splitlines()]
    return [(path, float(at)) for path, at in lines]


def handed_on(server: DurableServer, edge: str) -> list[int]:
    """How often each message was appended to an edge, as Redis wrote it down."""
    return [n for (found, _), n in read_journal(server.journal).births.items() if found == edge]


def test_a_handler_holding_the_lock_for_three_leases_doubles_nothing(project: Project, server: DurableServer) -> None:
    run(project, "hold_once", 1, workers=2)

    assert len(runs_of(project)) == 2
    assert handed_on(server, "hold_once>store") == [1]


def test_in_a_process_of_its_own_it_keeps_its_message_for_three_leases(project: Project) -> None:
    run(project, "hold", 2, workers=2)

    assert sorted(path for path, _ in runs_of(project)) == ["0", "1"]


def test_a_handler_that_forks_shares_no_connection_with_its_child(project: Project, server: DurableServer) -> None:
    run(project, "fork", 60, workers=1)

    assert len(runs_of(project)) == 60
    assert handed_on(server, "fork>store") == [1] * 60


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_retry_is_in_time_on_a_worker_whose_clock_is_an_hour_wrong(hours: int, project: Project, shim: Path) -> None:
    step = project.folder / "step"
    step.write_bytes(struct.pack("=q", hours * HOUR_SECONDS))

    run(project, "later", 1, workers=1, LD_PRELOAD=str(shim), CLOCK_STEP=str(step))

    (_, first), (_, second) = runs_of(project)
    assert RETRY_AFTER_SECONDS <= second - first < HOUR_SECONDS / 10, "a busy machine is late, but not by an hour"
