"""The balance of a pipeline: in = ok + filtered + dead + waiting + delayed + running, for every stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flowq.broker.records import Snapshot
from flowq.graph.compilation.plan import Plan, StagePlan


@dataclass(frozen=True, slots=True)
class StageBalance:
    """The counters of one stage in the current run, all from one instant.

    `entered` is what its edges took in, duplicates left out. `ok`, `filtered` and `dead` are settled for good, and
    `purged` was removed by hand; `waiting`, `delayed` and `running` are still here. `out` is what it gave, duplicates
    included. `retries` and `duplicates` are not part of the sum.
    """

    entered: int = 0
    ok: int = 0
    filtered: int = 0
    dead: int = 0
    retries: int = 0
    duplicates: int = 0
    waiting: int = 0
    delayed: int = 0
    running: int = 0
    out: int = 0
    purged: int = 0

    @property
    def outstanding(self) -> int:
        return self.waiting + self.delayed + self.running

    @property
    def adds_up(self) -> bool:
        return self.entered == self.ok + self.filtered + self.dead + self.purged + self.outstanding

    def as_json(self) -> dict[str, int]:
        """The same with `in` as users read it."""
        values = asdict(self)
        return {"in": values.pop("entered"), **values}


def balance_of(plan: Plan, snapshot: Snapshot) -> Mapping[str, StageBalance]:
    """The balance of every stage, in the plan's order. A source has only what it gave."""
    return {stage.name: _stage_balance(stage, snapshot) for stage in plan.stages}


def _stage_balance(stage: StagePlan, snapshot: Snapshot) -> StageBalance:
    counters, name = snapshot.counters, stage.name
    edges = [snapshot.edges[edge] for edge in stage.in_edges]
    out = counters.get(f"out:{name}", 0)
    if stage.is_source:
        return StageBalance(entered=out, ok=out, out=out)
    return StageBalance(
        entered=sum(counters.get(f"in:{edge}", 0) for edge in stage.in_edges),
        ok=counters.get(f"ok:{name}", 0),
        filtered=counters.get(f"filtered:{name}", 0),
        dead=counters.get(f"dead:{name}", 0),
        retries=counters.get(f"retries:{name}", 0),
        duplicates=sum(counters.get(f"duplicates:{edge}", 0) for edge in stage.in_edges),
        waiting=sum(edge.waiting for edge in edges),
        delayed=sum(edge.delayed for edge in edges),
        running=sum(edge.running for edge in edges),
        out=out,
        purged=counters.get(f"purged:{name}", 0),
    )
