"""A benchmark that is killed leaves nothing running: its workers would slow down whatever is measured next."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.processes import ROOT, ending_with_this_process
from tests.integration.flowq_process import wait_until
from tests.integration.marked_processes import MarkedProcesses
from tests.requirements import unavailable

BENCHMARK = """
from benchmarks.processes import start

child = start("-c", "import time; print('ready', flush=True); time.sleep(1e6)")
print(child.stdout.readline(), flush=True)
input()
"""


def test_a_process_that_a_benchmark_has_started_ends_when_the_benchmark_is_killed() -> None:
    if not ending_with_this_process():
        unavailable("no setpriv", "install util-linux, on Linux")
    marked = MarkedProcesses()
    with subprocess.Popen(
        [sys.executable, "-c", BENCHMARK],
        cwd=ROOT, env={**os.environ, **marked.variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as benchmark:  # fmt: skip
        try:
            assert benchmark.stdout is not None
            assert benchmark.stdout.readline()
            assert len(marked.pids()) == 2

            benchmark.kill()
            wait_until(lambda: not marked.pids())
        finally:
            marked.kill_all()
