"""A storm over a real run: `flowq run` with four workers, its Redis behind a proxy, and a fault every moment.

`python -m tests.faults.storm --seconds 60 --seed 1` prints a line for each fault and the verdict of the independent
verifier, and exits with 1 on any violation. A seed decides which faults come and when.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.eventually import eventually
from tests.faults import visits
from tests.faults.proxy import Proxy
from tests.faults.servers import DurableServer
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.redis_server import KINDS

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
WORKERS = 4
ROOTS_PER_SECOND = 5000 / 60
LONGEST_DRAIN_SECONDS = 60.0
SLOW_LINK_BYTES_PER_SECOND = 50_000
SMALL_OUTPUT_BUFFER_BYTES = 4_096
_LAST_LINES = 40

Say = Callable[[str], None]
Fault = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Outcome:
    """How a storm ended."""

    violated: bool
    faults: int
    report: str


class Storm:
    """Faults on the processes of a run and on its server. Two hands work at once, each with a randomness of its own."""

    def __init__(
        self, project: Project, server: DurableServer, proxy: Proxy, *, log: Path, seed: int, seconds: float, say: Say
    ) -> None:
        self._project = project
        self._visits = visits.open_log(log)
        self._server = server
        self._proxy = proxy
        self._seconds = seconds
        self._say = say
        self._rolls = random.Random(seed), random.Random(-seed - 1)
        self._began = time.monotonic()
        self._thawing: set[asyncio.Task[None]] = set()
        self.faults = 0

    async def rage(self) -> None:
        """Cause faults for the whole time and two more at its end, after which no worker dies."""
        on_workers, on_server = self._rolls
        try:
            await asyncio.gather(
                self._hand(on_workers, [*[self.kill_worker] * 3, *[self.freeze_worker] * 2], 0.5, 2.5),
                self._hand(on_server, [
                    self.kill_redis, self.freeze_redis, self.kill_clients, self.flush_scripts,
                    self.lose_commit_replies, self.lose_read_replies, self.stall, self.refuse, self.fill_memory,
                    self.reset_connections, self.slow_link, self.limit_output_buffers,
                ], 0.2, 2.0),
            )  # fmt: skip
            await self.kill_worker()
            await self.lose_read_replies()
        finally:
            await asyncio.gather(*self._thawing)
            os.close(self._visits)

    async def _hand(self, roll: random.Random, faults: Sequence[Fault], shortest: float, longest: float) -> None:
        while True:
            await asyncio.sleep(roll.uniform(shortest, longest))
            if time.monotonic() - self._began >= self._seconds:
                return
            await roll.choice(faults)()

    def _tell(self, fault: str) -> None:
        self.faults += 1
        self._say(f"  {time.monotonic() - self._began:6.1f} s  {fault}")

    # On the workers

    async def kill_worker(self) -> None:
        if (pid := self._some_worker()) is not None:
            self._tell(f"kill -9 of worker {pid}")
            send(pid, signal.SIGKILL)
            visits.note(self._visits, "killed", pid)

    async def freeze_worker(self) -> None:
        if (pid := self._some_worker()) is not None:
            self._tell(f"SIGSTOP of worker {pid} for {1.5 * LEASE_SECONDS:g} s")
            visits.note(self._visits, "frozen", pid)
            send(pid, signal.SIGSTOP)
            self._thawing.add(asyncio.create_task(self._thaw(pid)))

    async def _thaw(self, pid: int) -> None:
        await asyncio.sleep(1.5 * LEASE_SECONDS)
        send(pid, signal.SIGCONT)
        visits.note(self._visits, "thawed", pid)

    def _some_worker(self) -> int | None:
        workers = sorted(self._project.workers())
        return self._rolls[0].choice(workers) if workers else None

    # On the server

    async def kill_redis(self) -> None:
        seconds = self._rolls[1].uniform(0, 1)
        self._tell(f"kill -9 of Redis, down for {seconds:.1f} s")
        self._server.kill()
        await asyncio.sleep(seconds)
        self._server.start()

    async def freeze_redis(self) -> None:
        seconds = self._rolls[1].choice((0.9, 1.5)) * LEASE_SECONDS
        self._tell(f"SIGSTOP of Redis for {seconds:g} s")
        self._server.freeze()
        await asyncio.sleep(seconds)
        self._server.thaw()

    async def kill_clients(self) -> None:
        self._tell("CLIENT KILL of all connections")
        with self._server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")

    async def flush_scripts(self) -> None:
        self._tell("SCRIPT FLUSH")
        with self._server.client() as client:
            client.script_flush()

    async def lose_commit_replies(self) -> None:
        self._lose_replies("EVALSHA")

    async def lose_read_replies(self) -> None:
        self._lose_replies("XREADGROUP")

    def _lose_replies(self, command: str) -> None:
        times = self._rolls[1].randint(1, 8)
        self._tell(f"the next {times} replies to {command} are lost")
        self._proxy.drop_reply(command, times)

    async def stall(self) -> None:
        seconds = self._rolls[1].choice((0.3, 0.9, 2.0)) * LEASE_SECONDS
        self._tell(f"network stalled for {seconds:g} s")
        self._proxy.stall()
        await asyncio.sleep(seconds)
        self._proxy.resume()

    async def refuse(self) -> None:
        seconds = self._rolls[1].uniform(0.2, 2.0)
        self._tell(f"connections refused for {seconds:.1f} s")
        self._proxy.refuse()
        await asyncio.sleep(seconds)
        self._proxy.accept()

    async def reset_connections(self) -> None:
        self._tell("RST of all connections")
        self._proxy.reset_connections()

    async def slow_link(self) -> None:
        seconds = self._rolls[1].uniform(1.0, 4.0)
        self._tell(f"link of {SLOW_LINK_BYTES_PER_SECOND:,} bytes/s for {seconds:.1f} s")
        self._proxy.narrow(SLOW_LINK_BYTES_PER_SECOND)
        await asyncio.sleep(seconds)
        self._proxy.narrow(0)

    async def limit_output_buffers(self) -> None:
        seconds = self._rolls[1].uniform(1.0, 4.0)
        self._tell(f"client-output-buffer-limit of {SMALL_OUTPUT_BUFFER_BYTES:,} bytes for {seconds:.1f} s")
        with self._server.client() as client:
            client.config_set("client-output-buffer-limit", f"normal {SMALL_OUTPUT_BUFFER_BYTES} 0 0")
            await asyncio.sleep(seconds)
            client.config_set("client-output-buffer-limit", "normal 0 0 0")

    async def fill_memory(self) -> None:
        seconds = self._rolls[1].uniform(0.5, 3.0)
        self._tell(f"memory full for {seconds:.1f} s")
        with self._server.client() as client:
            client.config_set("maxmemory", "1")
            await asyncio.sleep(seconds)
            client.config_set("maxmemory", "0")


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def weather(seconds: float, seed: int, folder: Path, say: Say) -> Outcome:
    """Run the workload through a storm and have it judged."""
    roots = round(ROOTS_PER_SECOND * seconds / 10) * 10
    log = folder / "handled.log"
    with DurableServer(KINDS[seed % 2]) as server, Project(folder, STORM_LOG=str(log)) as project:
        async with Proxy(server.url) as proxy:
            run = start(project, proxy.url, roots, seconds)
            await eventually(lambda: log.exists() and log.stat().st_size > 0)
            storm = Storm(project, server, proxy, log=log, seed=seed, seconds=seconds, say=say)
            await storm.rage()
            say(f"  calm after {storm.faults} faults and {proxy.dropped} lost replies")
            calm_at = time.monotonic()
            drained = await ended(run, LONGEST_DRAIN_SECONDS)
            after = f"drained after {time.monotonic() - calm_at:.1f} s"
            say(f"  {after}" if drained else f"  not {after}; {state(server)}")
        project.kill_all()
        report = await judged(server, log, roots)
    said, exit_code = run.stderr.splitlines(), run.popen.returncode
    table = [
        report[1],
        f"  {'lines that flowq said':<34}{len(said):>9,}",
        f"  {'exit code of flowq run':<34}{exit_code:>9}",
    ]
    violated = bool(report[0]) or not drained or exit_code != 0
    if violated:
        table += ["flowq said at last:", *[f"  {line}" for line in said[-_LAST_LINES:]]]
    return Outcome(violated, storm.faults, "\n".join(table))


def start(project: Project, url: str, roots: int, seconds: float, *, workers: int = WORKERS) -> FlowqProcess:
    return project.start(
        *("run", "storm", "--workers", str(workers), "--quiet"),
        *("-a", f"n={roots}", "-a", f"seconds={seconds + 1}", "-a", f"began_at={time.time()}"),
        FLOWQ_PIPELINES="tests.faults.workload:storm",
        FLOWQ_REDIS_URL=url,
        FLOWQ_LEASE=f"{LEASE_SECONDS:g}s",
        PYTHONPATH=str(ROOT),
    )


async def ended(run: FlowqProcess, seconds: float) -> bool:
    """Whether the run ends by itself, which it does when it is drained."""
    deadline = time.monotonic() + seconds
    while not run.has_ended and time.monotonic() < deadline:  # noqa: ASYNC110  (another process ends)
        await asyncio.sleep(0.02)
    return run.has_ended


def state(server: DurableServer) -> str:
    """What is left, for a person to analyse."""
    with server.client() as client:
        streams = {key.decode(): client.xlen(key) for key in client.keys("*:edge:*")}
        return f"streams {streams}, workers {client.hlen('flowq:{storm}:workers')}"


async def judged(server: DurableServer, log: Path, roots: int) -> tuple[int, str]:
    """The exit code and the table of the verifier, which is a process of its own."""
    command = [sys.executable, "-m", "tests.faults.verifier", server.url, str(server.journal), str(log), str(roots)]
    verifier = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    out, _ = await verifier.communicate()
    assert verifier.returncode is not None
    return verifier.returncode, out.decode().rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"storm of {given.seconds:g} s, seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="flowq-storm-") as folder:
        outcome = asyncio.run(weather(given.seconds, given.seed, Path(folder), lambda line: print(line, flush=True)))
    print(outcome.report)
    print(f"seed {given.seed}: {'FAILED' if outcome.violated else 'clean'}")
    return int(outcome.violated)


if __name__ == "__main__":
    sys.exit(main())
