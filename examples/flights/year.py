"""Loads a whole year of flights, and measures Redis and the worker meanwhile: `make flights`.

It compares the stored rows with the oracle, and prints the peak memory of Redis and the memory of the worker over time.
Neither may grow with the number of flights: a full edge makes the source wait.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, cast

import redis

from examples.flights.dataset import FlightsUnavailable, flights
from examples.flights.oracle import Expected, expected
from flowq.broker.embedded.server import EmbeddedRedis

ROOT = Path(__file__).resolve().parents[2]
DEAD_LETTERS = 3  # exit code of `flowq run` when it is done and there are dead letters
LOOK_SECONDS = 0.5
MIB = 1024 * 1024
_WORKER = b"flowq.cli.run.worker_process"


class Memory:
    """Samples the memory of Redis and of the workers while the block runs."""

    def __init__(self, server: redis.Redis, supervisor: int) -> None:
        self._server = server
        self._supervisor = supervisor
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory")
        self.redis_bytes: list[int] = []
        self.worker_bytes: list[int] = []

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self.redis_bytes.append(memory_of(self._server)["used_memory"])
            self.worker_bytes.append(sum(rss_bytes(pid) for pid in children_of(self._supervisor)))


def children_of(pid: int) -> list[int]:
    """The worker processes of a supervisor."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"flowq.cli.run.worker_process" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except FileNotFoundError:
        return []


def rss_bytes(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> int:
    """Load, measure and compare; 0 when everything is as expected."""
    try:
        data = flights()
    except FlightsUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="year-") as made,
        EmbeddedRedis.acquire(Path(made) / ".flowq") as embedded,
        redis.Redis.from_url(embedded.url) as server,  # pyright: ignore[reportUnknownMemberType]
    ):
        folder = Path(made)
        (folder / "pipelines").mkdir()
        shutil.copy(ROOT / "pipelines" / "flights.py", folder / "pipelines")
        (folder / ".flights").symlink_to(data)
        months = str(folder / ".flights" / "2013-*.csv")
        command = [sys.executable, "-m", "flowq", "run", "flights", "--json", "-a", f"files={months}"]
        with (
            (folder / "stdout").open("w") as stdout,
            subprocess.Popen([*command, "--redis", embedded.url], cwd=folder, stdout=stdout) as run,
            Memory(server, run.pid) as memory,
        ):
            exit_code = run.wait()
        if exit_code not in (0, DEAD_LETTERS):
            return exit_code
        summary = json.loads((folder / "stdout").read_text().splitlines()[-1])
        peak = memory_of(server)["used_memory_peak"]
        print_balance(summary)
        print_memory(memory, peak)
        return compare(folder / "flights.db", expected(data, range(1, 13)))


def memory_of(server: redis.Redis) -> dict[str, int]:
    """The memory section of INFO."""
    return cast("dict[str, int]", server.info("memory"))  # pyright: ignore[reportUnknownMemberType]


def print_balance(summary: dict[str, Any]) -> None:
    print(f"the year in {summary['seconds']:.0f} s")
    for name, counters in summary["stages"].items():
        left = sum(counters[where] for where in ("waiting", "delayed", "running"))
        if counters["in"]:
            settled = f"ok {counters['ok']:>7,} + filtered {counters['filtered']:,} + dead {counters['dead']:>5,}"
            print(f"  {name:<15} in {counters['in']:>7,} = {settled} + left {left}")


def print_memory(memory: Memory, peak: int) -> None:
    living = [size for size in memory.worker_bytes if size]
    quarters = [living[len(living) * n // 4] / MIB for n in (1, 2, 3)] + [living[-1] / MIB]
    print(f"Redis, peak        {peak / MIB:.1f} MB")
    print(f"worker             {' '.join(f'{size:.0f}' for size in quarters)} MB, after each quarter of the time")


def compare(database: Path, outcome: Expected) -> int:
    with contextlib.closing(sqlite3.connect(database)) as db:
        flown = db.execute("select key, departed, dest, distance from flown").fetchall()
        cancelled = dict(db.execute("select key, scheduled from cancelled"))
    if {key: tuple(rest) for key, *rest in flown} != outcome.flown or cancelled != outcome.cancelled:
        print(f"{len(flown):,} flown and {len(cancelled):,} cancelled: differs from the oracle", file=sys.stderr)
        return 1
    print(f"{len(flown):,} flown and {len(cancelled):,} cancelled stored — matches the oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
