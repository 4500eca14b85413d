"""A worker process of one subject: `python -m benchmarks.worker SUBJECT TASK URL TALLY`. Works until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from benchmarks.subjects import subject
from benchmarks.tally import tally

if __name__ == "__main__":
    name, task, url, path = sys.argv[1:]
    tally.share(Path(path))
    work = subject(name).work  # imported before the start signal
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    uvloop.run(work(task, url))
