"""What the two crawls cost on one, two and three servers, and how long a message takes to another shard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple
from statistics import quantiles

from benchmarks.figures import Measured
from benchmarks.pacing import latencies_ms
from benchmarks.processes import Home, Team
from benchmarks.shards.servers import Servers
from benchmarks.subjects import shards as subject

SHARDS = 6
WORKERS = 6
MOST_SERVERS = 3
PER_SECOND = 20
_PAGES = 12  # of each host: more would not fit onto an edge, which holds 64 MB
_SECONDS = 10
_POLL_SECONDS = 0.01


def costs(scale: float) -> Measured:
    """Costs are processor microseconds per hop: of all workers, of all servers, and of the busiest one.

    What limits a server is its processor time. So its capacity follows from that, on a machine with too few cores to
    reach it. `capacity` of n servers is n if they need as much for a divided pipeline as for n pipelines that know
    nothing of each other, measured on as many servers because idle ones and cold caches cost time as well.
    """
    found = dict[str, float]()
    for n in range(1, MOST_SERVERS + 1):
        with Servers(n) as servers:
            apart = _crawled("stays", 1, servers, servers.primaries, scale)
        by_kind: dict[str, dict[str, float]] = {"apart": apart}
        for kind in ("stays", "crosses"):
            with Servers(n) as servers:
                by_kind[kind] = measured = _crawled(kind, SHARDS, servers, [servers], scale)
            found[f"{kind} {n} capacity"] = n * apart["busiest"] / measured["busiest"]
        found |= {f"{kind} {n} {key}": value for kind, measured in by_kind.items() for key, value in measured.items()}
        for where in ("redis", "worker"):
            more = by_kind["crosses"][where] - by_kind["stays"][where]
            found[f"crossing {n} {where}"] = more / by_kind["crosses"]["crossed"]
    return found


def _crawled(kind: str, n_shards: int, servers: Servers, homes: Sequence[Home], scale: float) -> dict[str, float]:
    """Handle each page in each stage, one stage after the other: queues are as full as at the limit of a server.

    Each of the `homes` has a pipeline with a part of the hosts and of the workers.
    """
    pages, hosts = max(1, int(_PAGES * scale)), subject.HOSTS // len(homes)
    tasks = [f"{kind} {n_shards} {stage}" for stage in subject.STAGES]
    for home in homes:
        asyncio.run(subject.publish(tasks[0], home.url, subject.links(pages, hosts)))
    before = asyncio.run(_progress(tasks[0], homes)).crossed
    spent = [_worked_off(task, servers, homes, pages * hosts) for task in tasks]
    crossed = asyncio.run(_progress(tasks[-1], homes)).crossed - before
    workers, *redis = map(sum, zip(*spent, strict=True))
    n_hops = pages * hosts * len(homes) * len(tasks)
    seconds = {"worker": workers, "redis": sum(redis), "busiest": max(redis)}
    return {"crossed": crossed / n_hops} | {where: 1e6 * each / n_hops for where, each in seconds.items()}


def _worked_off(task: str, servers: Servers, homes: Sequence[Home], n: int) -> list[float]:
    """Have `n` messages of each home handled. Returns the processor seconds of all workers, and of each server."""
    with ExitStack() as stack:
        teams = [stack.enter_context(Team("shards", task, home, workers=WORKERS // len(homes))) for home in homes]
        before = [sum(team.cpu_seconds for team in teams), *servers.cpu_seconds]
        for team in teams:
            team.go()
        for team in teams:
            team.wait_for(n)
        while (now := asyncio.run(_progress(task, homes))).outstanding or now.in_transit:
            if not all(team.is_alive for team in teams):
                raise RuntimeError(f"a worker of {task} has ended")
            time.sleep(_POLL_SECONDS)
        after = [sum(team.cpu_seconds for team in teams), *servers.cpu_seconds]
        return [now - then for now, then in zip(after, before, strict=True)]


async def _progress(task: str, homes: Sequence[Home]) -> subject.Progress:
    all_of_them = [await subject.progress(task, home.url) for home in homes]
    return subject.Progress(*map(sum, zip(*map(astuple, all_of_them), strict=True)))


def waits(scale: float) -> Measured:
    """How long a message takes from the push to the second of two stages, in milliseconds."""
    found = dict[str, float]()
    for copies, has_replicas in (("alone", False), ("replica", True)):
        for n_shards in (1, SHARDS):
            with Servers(MOST_SERVERS if n_shards > 1 else 1, replicas=has_replicas) as servers:
                task, n = f"hop {n_shards} send,receive", int(_SECONDS * PER_SECOND * scale)
                cuts = quantiles(asyncio.run(_hops(task, servers, n)), n=100)
            found |= {f"{copies} {n_shards} p50": cuts[49], f"{copies} {n_shards} p99": cuts[98]}
        for cut in ("p50", "p99"):
            found[f"{copies} more {cut}"] = found[f"{copies} {SHARDS} {cut}"] - found[f"{copies} 1 {cut}"]
    return found


async def _hops(task: str, servers: Servers, n: int) -> list[float]:
    with Team("shards", task, servers) as team:
        async with subject.sender(task, servers.url) as send:
            return await latencies_ms(team, send, n=n, per_second=PER_SECOND)
