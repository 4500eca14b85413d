"""A worker is frozen for longer than its lease and wakes up: whatever it then does, the message is its new owner's.

Eight messages meet all combinations: the late handler returns or raises, after the other worker has committed, delayed
or buried the message, or while it still runs it.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from tests.faults.servers import DurableServer
from tests.integration.flowq_process import FlowqProcess, wait_until
from tests.integration.project import Project

LATE = ("returns", "raises")
OTHER = ("committed", "running", "delayed", "buried")
PATHS = [f"{late}-{other}" for late, other in product(LATE, OTHER)]
KEY = "flowq:{owners}:"
PIPELINE = """
    from __future__ import annotations

    import asyncio
    import os
    from pathlib import Path

    from pydantic import BaseModel

    from flowq import Context, Pipeline, Reject, Retry, stage

    WHO = os.environ["WHO"]


    class Item(BaseModel):
        path: str


    def note(what: str, path: str) -> None:
        with open("notes", "a") as file:
            file.write(f"{WHO} {what} {path}\\n")


    async def file_exists(name: str) -> None:
        while not Path(name).exists():
            await asyncio.sleep(0.01)


    @stage(concurrency=8, retry=Retry(attempts=3, base=3600, max=3600))
    async def work(item: Item, ctx: Context) -> Item:
        late, other = item.path.split("-")
        note("begins", item.path)
        if WHO == "late":
            await file_exists("thawed")
            note("ends", item.path)
            if late == "raises":
                raise ConnectionError("the late one")
        elif other == "running":
            await file_exists("go")
        elif other == "delayed":
            raise ConnectionError("the other one")
        elif other == "buried":
            raise Reject("the other one")
        return Item(path=f"{item.path} by {WHO}")


    @stage
    async def store(item: Item) -> None: ...


    owners = Pipeline("owners", work >> store)
"""


@dataclass(frozen=True)
class Aftermath:
    """Where the messages have ended, by what was pushed."""

    outputs: list[str]
    delayed: list[bytes]
    letters: list[dict[str, Any]]
    counters: dict[str, int]
    begun: Counter[tuple[str, str]]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    folder = tmp_path_factory.mktemp("owners")
    with DurableServer("bundled") as server, Project(folder, FLOWQ_REDIS_URL=server.url) as project:
        project.write("owners", PIPELINE)
        with server.client() as client:
            for path in PATHS:
                client.xadd(KEY + "edge:>work", {"b": json.dumps({"path": path})})

            late = worker(project, "late")
            late.wait_for(lambda: n_notes(project, "late begins") == len(PATHS))
            os.kill(late.pid, signal.SIGSTOP)
            other = worker(project, "other")
            other.wait_for(lambda: n_notes(project, "other begins") == len(PATHS))
            wait_until(lambda: client.xlen(KEY + "edge:work>store") == client.zcard(KEY + "delayed:>work") == 2)
            wait_until(lambda: client.xlen(KEY + "dead:work") == 2)

            (folder / "thawed").touch()
            os.kill(late.pid, signal.SIGCONT)
            late.wait_for(lambda: n_notes(project, "late ends") == len(PATHS))
            late.popen.terminate()
            assert late.wait() == 0
            (folder / "go").touch()
            wait_until(lambda: client.xlen(KEY + "edge:>work") == 0)
            other.popen.terminate()
            assert other.wait() == 0

            yield Aftermath(
                outputs=[json.loads(fields[b"b"])["path"] for _, fields in client.xrange(KEY + "edge:work>store")],
                delayed=client.hvals(KEY + "parked:>work"),
                letters=[
                    {**json.loads(fields[b"x"]), **json.loads(fields[b"b"])}
                    for _, fields in client.xrange(KEY + "dead:work")
                ],
                counters={name.decode(): int(n) for name, n in client.hgetall(KEY + "stats").items()},
                begun=Counter((line.split()[0], line.split()[2]) for line in notes(project) if " begins " in line),
            )


def worker(project: Project, who: str) -> FlowqProcess:
    """Only the late one has a lease that is soon over: the other must not be taken for dead on a busy machine."""
    lease = "1s" if who == "late" else "10s"
    return project.start("run", "owners", "--stage", "work", "--workers", "0", "--lease", lease, WHO=who)


def notes(project: Project) -> list[str]:
    file = project.folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def n_notes(project: Project, beginning: str) -> int:
    return sum(line.startswith(beginning) for line in notes(project))


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("other", OTHER)
def test_a_late_owner_changes_nothing_whatever_came_of_its_message(late: str, other: str, aftermath: Aftermath) -> None:
    path = f"{late}-{other}"
    succeeds, retried, dead = other in ("committed", "running"), other == "delayed", other == "buried"

    assert [output for output in aftermath.outputs if output.startswith(path)] == [f"{path} by other"] * succeeds
    assert sum(path.encode() in parked for parked in aftermath.delayed) == retried
    letters = [letter for letter in aftermath.letters if letter["path"] == path]
    assert [letter["error"] for letter in letters] == ["Reject: the other one"] * dead
    assert aftermath.begun["late", path] == aftermath.begun["other", path] == 1


def test_late_failures_count_no_attempt_and_the_balance_adds_up(aftermath: Aftermath) -> None:
    counters = aftermath.counters

    assert {name: counters[f"{name}:work"] for name in ("ok", "dead", "retries")} == {"ok": 4, "dead": 2, "retries": 2}
    assert counters["in:>work"] == len(PATHS)
