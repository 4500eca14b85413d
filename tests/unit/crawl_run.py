"""A crawl as its run sees it: the plan, snapshots of it, and the summary."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flowq import Pipeline, source, stage
from flowq.broker.records import EdgeState, Snapshot
from flowq.broker.runs import balance_of
from flowq.cli.views.run_screen import RunAbout
from flowq.graph.compilation.plan import Plan
from flowq.runtime.run import Summary

START_MS = 1_795_527_000_000
ABOUT = RunAbout(
    pipeline="scrape",
    run_id="1m86wekeeynh9",
    address="redis://localhost:6379/0",
    shards=(),
    stages=(),
    drains=True,
    workers=2,
    resumed=False,
    others=0,
    version="0.1.0",
)


def crawl() -> Plan:
    @source
    def seeds() -> Iterator[str]:
        yield "/"

    @stage(concurrency=8, dedup=str)
    def fetch(url: str) -> bytes:
        raise NotImplementedError

    @stage(concurrency=2)
    def parse(page: bytes) -> Iterator[str | int]:
        raise NotImplementedError

    @stage
    def store(n: int) -> None: ...

    return Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch)).plan


PLAN = crawl()


def snapshot(
    at_seconds: float,
    *,
    known: int = 0,
    fetched: int = 0,
    dead: int = 0,
    delayed: int = 0,
    running: int = 0,
    retries: int = 0,
    seen_before: int = 0,
    workers: int = 2,
    reading: bool = False,
) -> Snapshot:
    """A crawl that knows some links and has fetched some of them; what is fetched is parsed and stored."""
    ok, left = fetched - dead, known - fetched
    counters = {
        "out:seeds": 1,
        "in:seeds>fetch": min(1, known),
        "in:parse>fetch": max(0, known - 1),
        "duplicates:parse>fetch": seen_before,
        "ok:fetch": ok,
        "dead:fetch": dead,
        "retries:fetch": retries,
        "in:fetch>parse": ok,
        "ok:parse": ok,
        "in:parse>store": ok,
        "ok:store": ok,
    }
    edges = {edge.name: EdgeState(0, 0, 0) for edge in PLAN.edges}
    edges["parse>fetch"] = EdgeState(left - delayed, running, delayed)
    return Snapshot(
        counters=counters,
        run={"id": ABOUT.run_id, "source:seeds": "open x" if reading else "done x"},
        workers=tuple({"worker": f"w{i}"} for i in range(workers)),
        now_ms=START_MS + round(at_seconds * 1000),
        edges=edges,
        dead_letters={"fetch": dead, "parse": 0, "store": 0},
    )


def summary(at_the_end: Snapshot, seconds: float = 8.43) -> Summary:
    balances = balance_of(PLAN, at_the_end)
    return Summary("scrape", ABOUT.run_id, at_the_end.is_drained, seconds, balances)


def words(written: str) -> str:
    """What is left of terminal output without its escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n")
