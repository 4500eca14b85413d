"""Memory and processor time of flowq at work and idle, and what it leaves in Redis."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flowq
from benchmarks.drain import worked_off
from benchmarks.figures import Figure, Goal, Measured, Workload
from benchmarks.item import items
from benchmarks.processes import children_of, cpu_seconds, peak_rss_mib, start
from benchmarks.server import Server
from benchmarks.subjects import flowq as subject_flowq
from benchmarks.subjects import subject

_IDLE_SECONDS = 10.0
_START_SECONDS = 20.0
_QUEUED = 10_000


@contextmanager
def _flowq_run(task: str, server: Server) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the real command in its own project. Yields its process and the id of its worker."""
    with tempfile.TemporaryDirectory(prefix="flowq-bench-") as folder:
        file = Path(folder, "pipelines", f"{task}.py")
        file.parent.mkdir()
        file.write_text(f'from benchmarks.subjects.flowq import PIPELINES\n{task} = PIPELINES["{task}"]\n')
        command = ("-m", "flowq", "run", task, "--forever", "--quiet", "--redis", server.url)
        process = start(*command, cwd=Path(folder), stderr=subprocess.DEVNULL)
        try:
            yield process, _worker_of(process)
        finally:
            process.terminate()
            process.communicate()


def _worker_of(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while not (children := children_of(process.pid)):
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError("flowq run started no worker")
        time.sleep(0.01)
    return children[0]


def _memory(scale: float) -> Measured:
    found: dict[str, float] = {}
    n = int(50_000 * scale)
    for name in ("flowq", "loop", "limit"):
        with Server() as server:
            before = server.memory_bytes
            asyncio.run(subject(name).publish("drain", server.url, items(n)))
            found[f"{name} queued"] = (server.memory_bytes - before) / n * _QUEUED / 2**20
            found[f"{name} rss"] = worked_off(name, "drain", n, server)[f"{name} rss"]
    with Server() as server:
        asyncio.run(subject_flowq.publish("drain", server.url, items(n)))
        with _flowq_run("drain", server) as (_, worker):
            _wait_until_drained("drain", server)
            found["worker of flowq run"] = peak_rss_mib(worker)
    return found


def _wait_until_drained(task: str, server: Server) -> None:
    deadline = time.monotonic() + 60.0
    while asyncio.run(subject_flowq.outstanding(task, server.url)):
        if time.monotonic() > deadline:
            raise RuntimeError("flowq run did not drain its pipeline")
        time.sleep(0.02)


def _idle(scale: float) -> Measured:
    seconds = max(3.0, _IDLE_SECONDS * scale)
    with Server() as server, _flowq_run("chain10", server) as (supervisor, worker):
        asyncio.run(subject_flowq.publish("chain10", server.url, items(10)))
        _wait_until_drained("chain10", server)
        time.sleep(1.0)
        before = {pid: cpu_seconds(pid) for pid in (worker, supervisor.pid)}
        redis_before = server.cpu_seconds
        commands = server.commands_per_second(seconds)
        return {
            "worker": 100 * (cpu_seconds(worker) - before[worker]) / seconds,
            "supervisor": 100 * (cpu_seconds(supervisor.pid) - before[supervisor.pid]) / seconds,
            "redis": 100 * (server.cpu_seconds - redis_before) / seconds,
            "commands": commands,
        }


def _leftovers(scale: float) -> Measured:
    """Run a pipeline twice: what a run leaves must not grow with the number of messages."""
    with Server() as server:
        found: dict[str, float] = {}
        for n in (100, max(200, int(10_000 * scale))):
            asyncio.run(subject_flowq.publish("chain", server.url, items(n)))
            asyncio.run(flowq.run(subject_flowq.PIPELINES["chain"], redis=server.url))
            n_keys = sum(server.client.ttl(key) < 0 for key in server.client.scan_iter())  # that do not expire
            found = {"new keys": n_keys - found.get("keys", 0), "keys": n_keys}
        streams = [key for key in server.client.scan_iter() if server.client.type(key) == b"stream"]
        groups = [group for stream in streams for group in server.client.xinfo_groups(stream)]
        return {
            **found,
            "entries": sum(server.client.xlen(stream) for stream in streams),
            "consumers": sum(group["consumers"] for group in groups),
            "pending": sum(group["pending"] for group in groups),
        }


_NONE = Goal(at_most=0)

WORKLOADS = (
    Workload(
        "memory",
        "memory at work",
        _memory,
        (
            Figure("worker of flowq run, at its peak", "worker of flowq run", "MiB", goal=Goal(at_most=55)),
            Figure("worker of a program, at its peak", "flowq rss", "MiB", ("loop rss", "limit rss"), Goal(at_most=55)),
            Figure("Redis, 10,000 queued", "flowq queued", "MiB", ("loop queued", "limit queued"), Goal(at_most=2.5)),
        ),
    ),
    Workload(
        "idle",
        "flowq run, ten stages, nothing to do",
        _idle,
        (
            Figure("of a core, in the worker", "worker", "%", goal=Goal(at_most=2)),
            Figure("of a core, in the supervisor", "supervisor", "%", goal=Goal(at_most=2)),
            Figure("of a core, in Redis", "redis", "%", goal=Goal(at_most=2)),
            Figure("commands sent to Redis", "commands", "/s", goal=Goal(at_most=20)),
        ),
    ),
    Workload(
        "leftovers",
        "what a drained pipeline leaves in Redis",
        _leftovers,
        (
            Figure("entries", "entries", "", goal=_NONE),
            Figure("pending entries", "pending", "", goal=_NONE),
            Figure("consumers", "consumers", "", goal=_NONE),
            Figure("keys more after 100 times the messages", "new keys", "", goal=_NONE),
        ),
    ),
)
