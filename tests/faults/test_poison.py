"""Messages that kill their process among healthy ones: exactly they become dead letters."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.journal import Journal, read_journal
from tests.faults.servers import DurableServer
from tests.integration.flowq_process import FlowqProcess, wait_until
from tests.integration.project import Project
from tests.requirements import unavailable

HEALTHY = 2000
WORKERS = 4
MEMORY_LIMIT_BYTES = 60_000_000
EXIT_WITH_NEW_DEAD_LETTERS = 3
PIPELINE = """
    from __future__ import annotations

    import ctypes
    import os
    import signal
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from flowq import Pipeline, SourceContext, source, stage


    class Item(BaseModel):
        path: str


    @source
    def crowd(ctx: SourceContext[int], healthy: int, poisons: str) -> Iterator[Item]:
        poison = dict(zip(range(healthy // 10, healthy, healthy // 5), poisons.split(",")))
        for n in range(ctx.cursor or 0, healthy):  # its own worker may be among those that die
            if n in poison:
                yield Item(path=poison[n])
            yield Item(path=str(n))
            ctx.save(n + 1)


    @stage(concurrency=4)
    def work(item: Item) -> Item:
        match item.path:
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                Path(os.environ["MEMORY_GROUP"], "cgroup.procs").write_text(str(os.getpid()))
                b"x" * 10 * int(os.environ["MEMORY_LIMIT"])
        return item


    @stage
    async def store(item: Item) -> None:
        with open("stored", "a") as file:
            file.write(item.path + "\\n")


    poison = Pipeline("poison", crowd >> work >> store)
"""


@dataclass(frozen=True)
class Aftermath:
    """What a run with poison in it has left."""

    poisons: list[str]
    run: FlowqProcess
    journal: Journal
    letters: list[dict[bytes, bytes]]
    stored: Counter[str]
    keys: set[str]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    with (
        memory_group() as group,
        DurableServer("debian") as server,
        Project(tmp_path_factory.mktemp("poison"), FLOWQ_REDIS_URL=server.url) as project,
    ):
        project.write("poison", PIPELINE)
        poisons = ["segfault", "exit", "kill", *["memory"] * (group is not None)]
        run = project.run(
            *("run", "poison", "--workers", str(WORKERS)),
            *("-a", f"healthy={HEALTHY}", "-a", f"poisons={','.join(poisons)}"),
            MEMORY_GROUP=str(group),
            MEMORY_LIMIT=str(MEMORY_LIMIT_BYTES),
        )
        with server.client() as client:
            letters = [fields for _, fields in client.xrange("flowq:{poison}:dead:work")]
            keys = {key.decode().removeprefix("flowq:{poison}:") for key in client.scan_iter()}
        stored = Counter((project.folder / "stored").read_text().split())
        yield Aftermath(poisons, run, read_journal(server.journal), letters, stored, keys)


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """A control group in which little memory can be had; None where none can be made."""
    for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(parent, f"flowq-test-{os.getpid()}")
        if not Path(parent, "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
            (group / limit).write_text(str(MEMORY_LIMIT_BYTES))
        except OSError:
            continue
        try:
            yield group
        finally:
            wait_until(partial(is_empty, group))
            group.rmdir()
        return
    yield None


def is_empty(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text()


def test_what_kills_its_workers_is_dead_and_nothing_else_is(aftermath: Aftermath) -> None:
    bodies = [letter[b"b"].decode() for letter in aftermath.letters]

    assert sorted(bodies) == sorted(f'{{"path":"{poison}"}}' for poison in aftermath.poisons)
    assert aftermath.run.popen.returncode == EXIT_WITH_NEW_DEAD_LETTERS


def test_the_letters_say_that_it_was_a_crash_and_of_what(aftermath: Aftermath) -> None:
    infos = {json.loads(letter[b"b"])["path"]: json.loads(letter[b"x"]) for letter in aftermath.letters}

    assert {info["reason"] for info in infos.values()} == {"crash"}
    assert "SIGSEGV" in infos["segfault"]["error"]
    assert "SIGKILL" in infos["kill"]["error"]
    assert "exit code 0" in infos["exit"]["error"]


def test_every_healthy_message_is_passed_on_once_and_stored(aftermath: Aftermath) -> None:
    healthy = {str(n) for n in range(HEALTHY)}
    handed_on = {path: n for (edge, path), n in aftermath.journal.births.items() if edge == "work>store"}

    assert handed_on == dict.fromkeys(healthy, 1)
    assert aftermath.stored.keys() == healthy
    assert not aftermath.journal.doubled
    assert not aftermath.journal.left


def test_no_suspicion_is_left(aftermath: Aftermath) -> None:
    assert not aftermath.keys & {"suspects", "certificates", "workers"}


def test_what_eats_all_memory_is_dead_as_well(aftermath: Aftermath) -> None:
    if "memory" not in aftermath.poisons:
        unavailable("no memory control group can be made", "run the tests as root, with cgroups mounted")
    (info,) = [json.loads(letter[b"x"]) for letter in aftermath.letters if b"memory" in letter[b"b"]]

    assert info["reason"] == "crash"
    assert "SIGKILL" in info["error"]
