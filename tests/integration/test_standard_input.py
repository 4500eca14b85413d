"""Standard input as a source: it reaches the worker, and one that died leaves no gap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flowq_process import wait_until
from tests.integration.project import Project, clean_environ

PIPE = """
    from pydantic import BaseModel

    from flowq import Pipeline, stage
    from flowq.sources import ndjson


    class Row(BaseModel):
        n: int


    @stage(concurrency=1)
    def store(row: Row) -> None:
        print("got", row.n, flush=True)


    pipe = Pipeline("pipe", ndjson(Row, "-") >> store)
"""
RUN = (sys.executable, "-m", "flowq", "run", "pipe", "--json")


pytestmark = pytest.mark.project({"pipe": PIPE})


def got(stderr: str) -> list[int]:
    return sorted(int(line.split()[1]) for line in stderr.splitlines() if line.startswith("got "))


def n_settled(project: Project) -> int:
    n: int = json.loads(project.flowq("status", "pipe", "--json").stdout)["stages"]["store"]["ok"]
    return n


def test_what_is_piped_into_a_run_is_handled_whole(project: Project) -> None:
    run = project.flowq("run", "pipe", "--json", stdin="".join(f'{{"n":{n}}}\n' for n in range(500)))

    assert run.returncode == 0, run.stderr
    assert got(run.stderr) == list(range(500))


def test_a_line_that_comes_slowly_does_not_wait_for_the_next_and_a_dead_reader_leaves_no_gap(
    project: Project, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr:
        run = subprocess.Popen(
            RUN, cwd=tmp_path, env=clean_environ(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr
        )
    assert run.stdin is not None
    try:
        for n in range(3):
            run.stdin.write(b'{"n":%d}\n' % n)
        run.stdin.flush()
        wait_until(lambda: n_settled(project) == 3)
        assert got(log.read_text()) == [0, 1, 2]
        (worker,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[-1:]
        os.kill(int(worker), signal.SIGKILL)
        assert run.wait(60) != 0
    finally:
        run.kill()
        run.stdin.close()
    assert "run it again with the same input" in log.read_text()

    again = project.flowq("run", "pipe", "--json", stdin="".join(f'{{"n":{n}}}\n' for n in range(6)))

    assert again.returncode == 0, again.stderr
    assert got(again.stderr) == [3, 4, 5]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "byte order mark"])
def test_a_byte_order_mark_is_no_part_of_the_first_message_however_it_comes_in(mark: str, project: Project) -> None:
    """A file, standard input of a source, and of `flowq push`."""
    content = mark + '{"n":1}\n{"n":2}\n'
    (project.folder / "rows.ndjson").write_text(content, encoding="utf-8")

    pushed = project.flowq("push", "pipe", "-", stdin=content)
    run = project.flowq("run", "pipe", "--json", stdin=content)
    again = project.flowq("run", "pipe", "--json", "-a", "files=rows.ndjson")

    assert pushed.returncode == run.returncode == again.returncode == 0, pushed.stderr + run.stderr + again.stderr
    assert got(run.stderr) == [1, 1, 2, 2]
    assert got(again.stderr) == [1, 2]
