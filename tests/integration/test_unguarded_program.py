"""A program without `if __name__ == "__main__":`, whose `process=True` handlers would run it again: one error."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.flowq_process import LONGEST_SECONDS
from tests.integration.project import Project

PROGRAM = """
import asyncio
import flowq

@flowq.stage(process=True, concurrency=4)
def square(n: int) -> int:
    return n * n

@flowq.stage
async def show(n: int) -> None:
    print(n)

squares = flowq.Pipeline("squares", square >> show)

with flowq.SyncPublisher(squares, redis="embedded") as publisher:
    publisher.push_many(square, range(20))
asyncio.run(flowq.run(squares, redis="embedded"))
"""
PIPELINE = PROGRAM.partition("\nwith ")[0]


def ran(project: Project, text: str) -> subprocess.CompletedProcess[str]:
    project.write("pipelines/squares.py", text)
    return subprocess.run(
        [sys.executable, "pipelines/squares.py"],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def numbers(project: Project) -> dict[str, int]:
    project.write("pipelines/squares.py", PIPELINE)  # the pipeline alone, for the command line
    found: dict[str, int] = json.loads(project.ok("status", "squares", "--json").stdout)["stages"]["square"]
    return found


@pytest.mark.project({})
def test_an_unguarded_program_with_process_handlers_is_one_error_and_loses_and_doubles_nothing(
    project: Project,
) -> None:
    done = ran(project, PROGRAM)

    assert done.returncode == 1
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert 'below  if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    found = numbers(project)
    assert (found["in"], found["waiting"], found["running"]) == (20, 20, 0)

    guarded = f'{PIPELINE}\nif __name__ == "__main__":\n    asyncio.run(flowq.run(squares, redis="embedded"))\n'
    done = ran(project, guarded)
    assert done.returncode == 0, done.stderr
    assert sorted(map(int, done.stdout.split())) == [n * n for n in range(20)]
