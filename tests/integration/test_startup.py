"""How much work precedes the first output, in units of what Python itself needs to start on the same machine."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.flowq_process import FLOWQ
from tests.integration.project import Project

# On an idle machine Python starts in 12 ms. Promised are 0.25 s for the help, 0.5 s for the first line of a run, and
# 0.8 s when it starts a Redis of its own. Processor time is compared, since a busy machine stretches all other time.
MOST_FOR_HELP = 0.25 / 0.012
MOST_FOR_FIRST_LINE = 0.5 / 0.012
MOST_WITH_ITS_OWN_REDIS = 0.8 / 0.012
MOST_TRIALS = 10  # other tests run beside this one: what counts is what can be reached, and one trial shows it

ONE = """
    from collections.abc import Iterator

    from flowq import Pipeline, source, stage


    @source
    def numbers() -> Iterator[int]:
        yield 1


    @stage
    def show(number: int) -> None: ...


    one = Pipeline("one", numbers >> show)
"""


pytestmark = pytest.mark.project({"one": ONE})


def test_the_help_is_there_at_once(project: Project) -> None:
    assert _can_be_within(MOST_FOR_HELP, lambda: _first_line(project, "--help"))


def test_a_run_says_at_once_what_it_does(project: Project) -> None:
    assert _can_be_within(MOST_FOR_FIRST_LINE, lambda: _first_line(project, "run", "one", "--memory"))


def test_a_run_that_starts_its_own_redis_says_at_once_what_it_does(project: Project) -> None:
    assert _can_be_within(MOST_WITH_ITS_OWN_REDIS, lambda: _first_line(project, "run", "one"))


def _can_be_within(most: float, trial: Callable[[], float]) -> bool:
    """Whether something takes less than so many times what `python -c pass` takes, each at its fastest."""
    trial()  # whatever is not compiled yet
    python, measured = float("inf"), float("inf")
    for _ in range(MOST_TRIALS):
        python, measured = min(python, _start_of_python()), min(measured, trial())
        if measured / python < most:
            break
    print(f"python -c pass: {python:.3f} s, measured: {measured:.3f} s")
    return measured / python < most


def _start_of_python() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _first_line(project: Project, *arguments: str) -> float:
    """Seconds of processor time until a command has said something."""
    with subprocess.Popen(
        [*FLOWQ, *arguments],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.stdout.read()  # it ends by itself
    assert line.strip()
    assert process.returncode == 0
    utime, stime = fields[11:13]
    return (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")
