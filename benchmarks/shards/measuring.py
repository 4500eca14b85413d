"""What the two crawls cost on one, two and three servers, and how long a message takes to another shard."""

from __future__ import annotations

import asyncio
import time
from statistics import mean, quantiles

from benchmarks.figures import Measured
from benchmarks.item import item
from benchmarks.processes import Team
from benchmarks.shards.servers import Servers
from benchmarks.subjects import shards as subject
from benchmarks.tally import count_in, read

SHARDS = 6
WORKERS = 6
MOST_SERVERS = 3
PER_SECOND = 20
_PAGES = 20  # of each host
_SECONDS, _WARM_UP = 20, 20
_POLL_SECONDS = 0.01
_LONGEST_SECONDS = 300.0


def costs(scale: float) -> Measured:
    """Costs are processor microseconds per hop. `capacity`: of the servers together, relative to one without shards.

    What limits a server is its processor time. So its capacity follows from that, on a machine with too few cores to
    reach it. The one server is measured before and after each of the others: machines change their speed.
    """
    found, ones = dict[str, float](), [_crawled("stays", 1, 1, scale)]
    for n in range(1, MOST_SERVERS + 1):
        by_kind: dict[str, dict[str, float]] = {}
        for kind in ("stays", "crosses"):
            by_kind[kind] = measured = _crawled(kind, SHARDS, n, scale)
            ones.append(_crawled("stays", 1, 1, scale))
            found |= {f"{kind} {n} {key}": value for key, value in measured.items()}
            found[f"{kind} {n} capacity"] = mean(one["busiest"] for one in ones[-2:]) / measured["busiest"]
        stays, crosses = by_kind.values()
        for where in ("redis", "worker"):
            found[f"crossing {n} {where}"] = (crosses[where] - stays[where]) / crosses["crossed"]
    return found | {f"one {key}": mean(one[key] for one in ones) for key in ones[0]}


def _crawled(kind: str, n_shards: int, n_servers: int, scale: float) -> dict[str, float]:
    """Handle each page in each stage, one stage after the other: queues are as full as at the limit of a server."""
    first, pages = f"{kind} {n_shards} {subject.STAGES[0]}", max(1, int(_PAGES * scale))
    hops = pages * subject.HOSTS * len(subject.STAGES)
    with Servers(n_servers) as servers:
        asyncio.run(subject.publish(first, servers.url, subject.links(pages)))
        before = asyncio.run(subject.progress(first, servers.url)).crossed
        worker, redis, crossed = 0.0, [0.0] * n_servers, 0
        for stage in subject.STAGES:
            task = f"{kind} {n_shards} {stage}"
            with Team("shards", task, servers, workers=WORKERS) as team:
                worker_before, redis_before = team.cpu_seconds, servers.cpu_seconds
                team.go()
                _until(team, pages * subject.HOSTS)
                while (now := asyncio.run(subject.progress(task, servers.url))).outstanding or now.in_transit:
                    time.sleep(_POLL_SECONDS)
                spent = [after - then for after, then in zip(servers.cpu_seconds, redis_before, strict=True)]
                redis = [so_far + more for so_far, more in zip(redis, spent, strict=True)]
                worker, crossed = worker + team.cpu_seconds - worker_before, now.crossed - before
    return {
        "worker": worker * 1e6 / hops,
        "redis": sum(redis) * 1e6 / hops,
        "busiest": max(redis) * 1e6 / hops,
        "crossed": crossed / hops,
    }


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
            team.go()
            for number in range(_WARM_UP):
                await send(item(number, time.monotonic_ns()))
            await asyncio.to_thread(_until, team, _WARM_UP)
            began = time.monotonic()
            for number in range(n):
                await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
                await send(item(_WARM_UP + number, time.monotonic_ns()))
            await asyncio.to_thread(_until, team, _WARM_UP + n)
        return [late_ns / 1e6 for late_ns in read(team.tallies).late_ns[_WARM_UP:]]


def _until(team: Team, n: int) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while (done := count_in(team.tallies)) < n:
        if time.monotonic() > deadline or not team.is_alive:
            raise RuntimeError(f"{done:,} of {n:,} messages were handled")
        time.sleep(_POLL_SECONDS)
