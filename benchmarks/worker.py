"""A worker process of one subject: `python -m benchmarks.worker SUBJECT TASK URL TALLY`. Works until terminated."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from importlib import import_module
from pathlib import Path

import uvloop

from benchmarks.tally import tally


async def work_until_terminated(subject: str, task: str, url: str) -> None:
    work = import_module(f"benchmarks.subjects.{subject}").work
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    working = asyncio.ensure_future(work(task, url))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


if __name__ == "__main__":
    subject, task, url, path = sys.argv[1:]
    tally.share(Path(path))
    uvloop.run(work_until_terminated(subject, task, url))
