"""`flowq run` once more while a run is under way: more workers for the same run, not a second one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

COUNT = """
    import asyncio
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowq import Pipeline, source, stage


    @source
    async def numbers() -> AsyncIterator[int]:
        for n in range(300):
            if n == 100:
                while not Path("go").exists():
                    await asyncio.sleep(0.01)
            yield n


    @stage
    def show(number: int) -> None:
        with Path("shown").open("a") as file:
            print(number, file=file)


    count = Pipeline("count", numbers >> show)
"""


@pytest.fixture
def first(project: Project) -> FlowqProcess:
    """A run whose source stops after a hundred numbers, until there is a file named go."""
    project.write("count", COUNT)
    run = project.start("run", "count")
    run.wait_for(lambda: len(shown(project.folder)) == 100)
    return run


def shown(folder: Path) -> list[int]:
    file = folder / "shown"
    return sorted(int(line) for line in file.read_text().splitlines()) if file.exists() else []


def test_a_second_run_joins_the_first_and_its_source_gives_all_once(project: Project, first: FlowqProcess) -> None:
    second = project.start("run", "count")
    second.wait_for(lambda: "joins 1 worker" in second.stdout + second.stderr)
    second.wait_for(lambda: "source numbers is being run by worker" in second.stderr)
    (project.folder / "go").touch()

    assert (first.wait(), second.wait()) == (0, 0)
    assert shown(project.folder) == list(range(300))


def test_the_source_goes_to_the_second_run_when_the_first_is_stopped(project: Project, first: FlowqProcess) -> None:
    second = project.start("run", "count")
    second.wait_for(lambda: "source numbers is being run by worker" in second.stderr)
    first.signal_group(signal.SIGINT)
    first.wait()
    (project.folder / "go").touch()

    assert second.wait() == 0
    assert shown(project.folder) == sorted([*range(100), *range(300)])  # without a cursor it begins again
