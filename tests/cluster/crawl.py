"""Crawls the synthetic site on a real cluster while things go wrong, and judges what came of it.

`python -m tests.cluster.crawl --pages 200000 --shards 6 --faults kills=60,failover=1` prints a line for each fault
and a table, and exits with 1 on any violation.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowq.broker.keys import Keys
from tests.cluster.crawl_pipeline import Terms
from tests.cluster.crawl_verdict import PIPELINE, n_handled, shard_states, unfinished, verdict
from tests.cluster.lab import NAMESPACE, Lab, Servers, lab, plain_servers, proxied_lab
from tests.cluster.site import Site
from tests.cluster.starts import ahead_seconds, most_in_a_second, starts_of, too_hasty
from tests.cluster.troubles import NEED_PROXIES, TROUBLES, Scene, strike
from tests.eventually import eventually
from tests.faults.verifier import Finding
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.redis_server import KINDS, Kind

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
WORKERS = 3
LONGEST_SECONDS = 60.0  # without progress
_LAST_LINES = 30


@dataclass(frozen=True)
class Crawl:
    """A crawl, and how often each trouble strikes it. `reshards`: other numbers of shards, one after the other."""

    terms: Terms
    faults: Mapping[str, int] = field(default_factory=dict[str, int])
    reshards: tuple[int, ...] = ()
    n_servers: int = 0  # plain ones, instead of a cluster
    workers: int = WORKERS
    kind: Kind = "bundled"
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    findings: list[Finding]
    said: list[str]
    seconds: float

    @property
    def is_exact(self) -> bool:
        return not any(finding.n for finding in self.findings if finding.is_fault)

    def __str__(self) -> str:
        lines = [*map(str, self.findings), f"  {self.seconds:.1f} s"]
        return "\n".join([*lines, *([] if self.is_exact else ["flowq said at last:", *self.said[-_LAST_LINES:]])])


async def carry_out(crawl: Crawl, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Run a crawl with its troubles to its end, in an empty folder."""
    ledger = folder / "ledger"
    ledger.mkdir()
    crawl = replace(crawl, terms=replace(crawl.terms, ledger=ledger))
    async with _lab_for(crawl) as found:
        with Project(folder, PYTHONPATH=str(ROOT)) as project:
            return await _Course(crawl, found, project, say).end()


@asynccontextmanager
async def _lab_for(crawl: Crawl) -> AsyncIterator[Lab | Servers]:
    if NEED_PROXIES & crawl.faults.keys():
        async with proxied_lab(crawl.kind) as found:
            yield found
    elif crawl.n_servers:
        with plain_servers(crawl.n_servers, crawl.kind) as servers:
            yield servers
    else:
        with lab(crawl.kind) as found:
            yield found


class _Course:
    """One crawl under way."""

    def __init__(self, crawl: Crawl, home: Lab | Servers, project: Project, say: Callable[[str], None]) -> None:
        self._crawl, self._home, self._project = crawl, home, project
        self._began = time.monotonic()
        self._say = lambda line: say(f"  {time.monotonic() - self._began:6.1f} s  {line}")
        self._site = Site(crawl.terms.pages, crawl.terms.seed)
        self._n_shards = crawl.terms.shards
        self._extra: list[Finding] = []

    async def end(self) -> Outcome:
        runs = [self._run()]
        for n, shards in enumerate(self._crawl.reshards, 1):
            await self._progress_to(n / (len(self._crawl.reshards) + 1), runs[-1])
            self._stop_at_once()
            await self._reshard(shards)
            runs.append(self._run())
        scene = Scene(self._home, self._project, self._n_shards, self._say, dict(self._crawl.faults), self._crawl.seed)
        troubles = asyncio.create_task(self._trouble(scene, runs[-1]))
        try:
            await self._until_it_ends(runs[-1], troubles)
        finally:
            troubles.cancel()
            await asyncio.gather(troubles, return_exceptions=True)
        seconds = time.monotonic() - self._began
        self._say(f"the run ended with {runs[-1].popen.returncode}")
        await scene.whole()
        await self._until_outboxes_are_empty()
        return Outcome(self._judged(scene, runs[-1]), runs[-1].stderr.splitlines(), seconds)

    def _run(self, *options: str) -> FlowqProcess:
        terms = replace(self._crawl.terms, shards=self._n_shards)
        return self._project.start(
            *("run", "crawl", "--workers", str(self._crawl.workers), "--quiet", *options),
            FLOWQ_PIPELINES="tests.cluster.crawl_pipeline:crawl",
            FLOWQ_REDIS_URL=self._home.url,
            FLOWQ_LEASE=f"{LEASE_SECONDS:g}s",
            **terms.variables(),
        )

    async def _until_outboxes_are_empty(self) -> None:
        """Serve the shards a little longer, if need be.

        What was applied is kept until a replica has confirmed that. A run does not wait for it: the next worker of the
        shard removes it.
        """
        if self._are_outboxes_empty():
            return
        worker = self._run("--stage", "store")
        with suppress(AssertionError):  # the verdict will name them
            await eventually(self._are_outboxes_empty, seconds=LONGEST_SECONDS)
            self._say("outboxes were emptied by another worker")
        worker.popen.terminate()
        worker.wait()

    def _are_outboxes_empty(self) -> bool:
        return not any(n for state in shard_states(self._home, self._n_shards) for n in state.outboxes.values())

    async def _progress_to(self, part: float, run: FlowqProcess) -> None:
        wanted = part * 4 * len(self._site.reachable)
        await self._until(lambda: run.has_ended or n_handled(self._crawl.terms.ledger) >= wanted)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as the condition holds, or nothing has been handled for LONGEST_SECONDS."""
        n, at = -1, time.monotonic()

        def holds_or_has_stalled() -> bool:
            nonlocal n, at
            before, n = n, n_handled(self._crawl.terms.ledger)
            at = at if n == before else time.monotonic()
            return condition() or time.monotonic() - at > LONGEST_SECONDS

        await eventually(holds_or_has_stalled, seconds=math.inf)

    def _stop_at_once(self) -> None:
        self._project.kill_all()
        self._say("kill -9 of the run and all of its workers")

    async def _reshard(self, shards: int) -> None:
        await self._until_leases_have_ended()
        self._n_shards = shards
        terms = replace(self._crawl.terms, shards=shards)
        done = await asyncio.to_thread(
            self._project.flowq,
            *("apply", "crawl", "--yes"),
            FLOWQ_PIPELINES="tests.cluster.crawl_pipeline:crawl",
            FLOWQ_REDIS_URL=self._home.url,
            **terms.variables(),
        )
        self._say(f"flowq apply: {shards} shards, exit code {done.returncode}: {(done.stdout + done.stderr)[-200:]!r}")
        assert done.returncode == 0, done.stdout + done.stderr

    async def _until_leases_have_ended(self) -> None:
        """`flowq apply` is refused while a worker that was killed counts as alive."""
        shards = [Keys(NAMESPACE, PIPELINE).in_shard(shard) for shard in range(self._n_shards)]
        await eventually(lambda: not any(map(self._has_leases, shards)))

    def _has_leases(self, keys: Keys) -> bool:
        return any(self._home.primary_of(keys).client.scan_iter(keys.lease("*"), count=1000))

    async def _trouble(self, scene: Scene, run: FlowqProcess) -> None:
        await self._progress_to(0.05, run)
        await strike(scene)
        self._crawl.terms.calm.touch()
        self._say(f"all troubles are over: {scene.done}")

    async def _until_it_ends(self, run: FlowqProcess, troubles: asyncio.Task[None]) -> None:
        """The run ends by itself, which it does when it is drained."""
        await eventually(lambda: run.has_ended or troubles.done(), seconds=math.inf)
        if troubles.done():
            troubles.result()
        await self._until(lambda: run.has_ended)
        if not run.has_ended:
            self._say(f"no progress: {unfinished(shard_states(self._home, self._n_shards))}")
            run.popen.kill()
            with suppress(ChildProcessError):
                run.wait()

    def _judged(self, scene: Scene, run: FlowqProcess) -> list[Finding]:
        code = run.popen.returncode
        findings = verdict(self._site, self._crawl.terms.ledger, shard_states(self._home, self._n_shards))
        missing = [f"{name} struck {scene.done.get(name, 0)} times" for name in scene.n if not scene.has_enough(name)]
        return [
            *findings,
            *self._pace(),
            Finding.of("exit code of the run", [code] if code else []),
            Finding.of("troubles it was too short for", missing),
        ]

    def _pace(self) -> list[Finding]:
        """Whether each host was asked at its rate. A primary that forgets turns grants them again."""
        per_second = self._crawl.terms.rate
        if not per_second:
            return []
        starts = starts_of(self._crawl.terms.ledger)
        most, ahead = (
            max(map(most_in_a_second, starts.values())),
            max(ahead_seconds(each, per_second) for each in starts.values()),
        )
        hasty = Finding.of("hosts asked faster than allowed", too_hasty(starts, per_second))
        return [
            Finding("most starts of a host in 1 s", most, is_fault=False),
            Finding("ms that a start was too early", int(ahead * 1000), is_fault=False),
            replace(hasty, is_fault="failover" not in self._crawl.faults),
        ]


def faults_of(text: str) -> dict[str, int]:
    """`kills=60,failover` as numbers."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return {name: int(n or "1") for name, _, n in parts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--faults", type=faults_of, default={}, help=f"{', '.join(TROUBLES)}; with a number: kills=60")
    parser.add_argument("--reshard", default="", help="6,12: killed and applied in the middle")
    parser.add_argument("--servers", type=int, default=0, help="plain servers instead of a cluster")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--fetch-seconds", type=float, default=0.0)
    parser.add_argument("--server", choices=KINDS, default="bundled")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    terms = Terms(given.pages, given.seed, given.shards, given.rate, given.fetch_seconds)
    reshards = tuple(map(int, filter(None, given.reshard.split(","))))
    crawl = Crawl(terms, given.faults, reshards, given.servers, given.workers, given.server, given.seed)
    with tempfile.TemporaryDirectory(prefix="flowq-crawl-") as folder:
        outcome = asyncio.run(carry_out(crawl, Path(folder), lambda line: print(line, flush=True)))
    print(outcome)
    print("exact" if outcome.is_exact else "FAILED")
    return int(not outcome.is_exact)


if __name__ == "__main__":
    sys.exit(main())
