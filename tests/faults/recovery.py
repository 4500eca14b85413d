"""How soon a run is back at its speed after a fault, what it says meanwhile, and what a worker costs that only waits.

`python -m tests.faults.recovery` does everything to one `flowq run` that is never started again, and prints a table.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.proxy import Proxy
from tests.faults.servers import DurableServer
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

LONGEST_RECOVERY_SECONDS = 10.0
RECOVERED = 0.8  # of the speed before
_WINDOW_SECONDS = 0.5
_IDLE_SECONDS = 3.0
PIPELINE = """
    import asyncio
    import itertools
    import os
    from collections.abc import Iterator

    from flowq import Pipeline, source, stage

    handled = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


    @source
    def numbers() -> Iterator[int]:
        yield from itertools.count()


    @stage(concurrency=10, maxsize=2000)
    async def work(n: int) -> None:
        await asyncio.sleep(0.02)
        os.write(handled, b".")


    steady = Pipeline("steady", numbers >> work)
"""

Fault = Callable[["Patient", float], Awaitable[None]]


@dataclass(frozen=True)
class Recovery:
    """What one fault did. `seconds` from its end until the old speed, None if that never came back."""

    fault: str
    before_per_second: float
    seconds: float | None
    lines_per_second: float
    is_same_worker: bool

    def __str__(self) -> str:
        back = "never" if self.seconds is None else f"{self.seconds:.1f} s"
        return (
            f"{self.fault:<34}{self.before_per_second:>6.0f}/s before, back after {back:>6}, "
            f"{self.lines_per_second:.1f} lines/s{'' if self.is_same_worker else ', BY ANOTHER WORKER'}"
        )


@dataclass(frozen=True)
class Patient:
    """A run, its server, and the network between them."""

    project: Project
    server: DurableServer
    proxy: Proxy
    run: FlowqProcess

    @property
    def n_handled(self) -> int:
        """A byte is one message."""
        with suppress(FileNotFoundError):
            return (self.project.folder / "handled").stat().st_size
        return 0

    @property
    def n_lines(self) -> int:
        return len(self.run.stderr.splitlines())

    async def per_second(self, seconds: float) -> float:
        """The speed over so many seconds from now."""
        n, began = self.n_handled, time.monotonic()
        await asyncio.sleep(seconds)
        return (self.n_handled - n) / (time.monotonic() - began)

    async def recover_from(self, name: str, fault: Fault, seconds: float) -> Recovery:
        """Let one fault last for so long, and see what comes after."""
        workers = self.project.workers()
        before = await self.per_second(2 * _WINDOW_SECONDS)
        n_lines, began = self.n_lines, time.monotonic()
        await fault(self, seconds)
        ended = time.monotonic()
        recovered_after: float | None = None
        while recovered_after is None and time.monotonic() - ended < LONGEST_RECOVERY_SECONDS:
            at = time.monotonic()
            if await self.per_second(_WINDOW_SECONDS) >= RECOVERED * before:
                recovered_after = at - ended
        lines_per_second = (self.n_lines - n_lines) / max(1.0, time.monotonic() - began)
        return Recovery(name, before, recovered_after, lines_per_second, workers == self.project.workers())


async def refuse(patient: Patient, seconds: float) -> None:
    patient.proxy.refuse()
    await asyncio.sleep(seconds)
    patient.proxy.accept()


async def stall(patient: Patient, seconds: float) -> None:
    patient.proxy.stall()
    await asyncio.sleep(seconds)
    patient.proxy.resume()


async def freeze_server(patient: Patient, seconds: float) -> None:
    patient.server.freeze()
    await asyncio.sleep(seconds)
    patient.server.thaw()


async def kill_server(patient: Patient, seconds: float) -> None:
    patient.server.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(patient.server.start)


async def flush_scripts(patient: Patient, seconds: float) -> None:
    await _again_and_again(patient, seconds, "SCRIPT", "FLUSH")


async def kill_clients(patient: Patient, seconds: float) -> None:
    await _again_and_again(patient, seconds, "CLIENT", "KILL", "TYPE", "normal")


async def _again_and_again(patient: Patient, seconds: float, *command: str) -> None:
    deadline = time.monotonic() + seconds
    with patient.server.client() as client:
        while time.monotonic() < deadline:
            client.execute_command(*command)
            await asyncio.sleep(0.1)


async def fill_memory(patient: Patient, seconds: float) -> None:
    with patient.server.client() as client:
        client.config_set("maxmemory", "1")
        await asyncio.sleep(seconds)
        client.config_set("maxmemory", "0")


FAULTS: dict[str, Fault] = {
    "connections refused": refuse,
    "network stalled": stall,
    "Redis frozen": freeze_server,
    "Redis killed, back with its log": kill_server,
    "SCRIPT FLUSH, ten a second": flush_scripts,
    "CLIENT KILL, ten a second": kill_clients,
    "memory full": fill_memory,
}


async def recoveries(folder: Path, seconds: float, *, tell: Callable[[Recovery], None]) -> list[Recovery]:
    """Do every fault, one after the other, to a run with one worker."""
    found: list[Recovery] = []
    with DurableServer("bundled") as server, Project(folder) as project:
        project.write("steady", PIPELINE)
        async with Proxy(server.url) as proxy:
            run = project.start("run", "steady", "--quiet", "--lease", "3s", "--redis", proxy.url)
            patient = Patient(project, server, proxy, run)
            while patient.n_handled < 500:  # noqa: ASYNC110  (another process works)
                await asyncio.sleep(0.05)
            for name, fault in FAULTS.items():
                found.append(await patient.recover_from(name, fault, seconds))
                tell(found[-1])
    return found


async def idle_cpu(folder: Path, seconds: float = _IDLE_SECONDS) -> float:
    """The part of one core that a worker takes while it waits for messages."""
    with DurableServer("bundled") as server, Project(folder) as project:
        project.write("steady", PIPELINE)
        project.start("run", "steady", "--stage", "work", "--redis", server.url)
        with server.client() as client:
            while client.hlen("flowq:{steady}:workers") < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        (worker,) = project.workers()
        before = cpu_seconds(worker)
        await asyncio.sleep(seconds)
        return (cpu_seconds(worker) - before) / seconds


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="flowq-recovery-") as folder:
        await recoveries(Path(folder) / "busy", 3.0, tell=lambda recovery: print(recovery, flush=True))
        print(f"a worker that waits takes {await idle_cpu(Path(folder) / 'idle'):.1%} of a core")


if __name__ == "__main__":
    asyncio.run(main())
