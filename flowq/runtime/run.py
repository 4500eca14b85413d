"""A run: its options, its state in Redis, and its summary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowq.broker.message_ids import new_run_id
from flowq.broker.records import Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, StageBalance, balance_of
from flowq.errors import NotFound, RunLost
from flowq.graph.compilation.plan import Plan
from flowq.runtime.source_arguments import digest, in_one_order, reject_unknown_arguments, source_arguments

if TYPE_CHECKING:
    from flowq.dead_letters.source_rejects import SourceRejects

DEFAULT_LEASE_SECONDS = 15.0
DEFAULT_GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run, and how. Empty `stages` means all, sources included. `drains`: the run ends when all is done.

    `shards`: serve exactly these, instead of those that are assigned.
    """

    stages: Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    drains: bool = True
    shards: Sequence[int] = ()

    def runs(self, stage: str) -> bool:
        """Whether this stage or source is selected."""
        return not self.stages or stage in self.stages

    def check(self, plan: Plan) -> None:
        """Raise NotFound for a stage or shard that is missing, UsageError for arguments unfit for its sources."""
        for name in self.stages:
            plan.stage(name)
        for shard in self.shards:
            if shard not in range(plan.shards):
                has = f"shards 0 to {plan.shards - 1}" if plan.shards > 1 else "one shard, 0"
                raise NotFound(f"there is no shard {shard}", hint=f'"{plan.name}" has {has}')
        reject_unknown_arguments(plan, self.arguments)
        for source in plan.sources:
            if self.runs(source.name):
                source_arguments(source, self.arguments)

    def signature(self) -> str:
        """The same for two runs that pass the same arguments to their sources."""
        return digest(sorted((name, in_one_order(value)) for name, value in self.arguments.items()))


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. `rejects`: what sources have read that could not become a message, if that was looked up.

    `in_transit`: messages between shards, which no stage has yet.
    """

    pipeline: str
    run: str
    drained: bool
    seconds: float
    stages: Mapping[str, StageBalance]
    rejects: SourceRejects | None = None
    in_transit: int = 0

    @property
    def dead(self) -> int:
        """Dead letters of this run, all stages together."""
        return sum(balance.dead for balance in self.stages.values())

    def as_json(self) -> dict[str, Any]:
        """The object that `flowq run --json` prints at the end."""
        return {
            "pipeline": self.pipeline,
            "run": self.run,
            "drained": self.drained,
            "seconds": round(self.seconds, 3),
            "stages": {name: balance.as_json() for name, balance in self.stages.items()},
            **({"in_transit": self.in_transit} if self.in_transit else {}),
            **({"rejected": self.rejects.as_json()} if self.rejects is not None and self.rejects.n else {}),
        }


class Run:
    """One run of a pipeline in Redis: begun or joined, then watched until it is drained."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self.world = broker.world
        self._edges = [edge.name for edge in plan.edges]
        self._stages = [stage.name for stage in plan.consumers]
        self.id = ""
        self.resumed = False
        self._has_counted = False

    async def begin(self, options: RunOptions, *, fresh: bool = False, recorded: Collection[str] = ()) -> list[str]:
        """Begin a run, or continue one that was interrupted. Returns the sources that have to run.

        `recorded` are the edges of all versions of the pipeline that have run.
        """
        selected = [source.name for source in self._plan.sources if options.runs(source.name)]
        self.id, self.resumed, finished = await self._runs().begin(
            new_run_id(self.world),
            sources=selected,
            signature=options.signature(),
            edges=self._edges,
            stages=self._stages,
            fresh=fresh,
            remembering=[
                stage.name for stage in self._plan.consumers if stage.dedup and stage.dedup.scope == "forever"
            ],
            orphans=[edge for edge in recorded if edge not in self._plan.edge_by_name],
        )
        self._tell_brokers()
        return [name for name in selected if not finished[name]]

    def join(self, snapshot: Snapshot) -> None:
        """Join the current run, whichever it is: for a worker of some stages, without sources."""
        self.id = snapshot.run.get("id", "")
        self._tell_brokers()

    def _tell_brokers(self) -> None:
        for broker in self._broker.shards:
            broker.run_id = self.id

    def refuse_if_lost(self, snapshot: Snapshot) -> None:
        """Raise RunLost if Redis has lost this run, whose missing data would look drained.

        A newer run id is fine: another program may begin a run once this one is drained. An older id comes from an old
        snapshot on disk. A run without sources has no id, but its counters never vanish.
        """
        found = snapshot.run.get("id", "")
        if found < self.id or (not found and self._has_counted and not snapshot.counters):
            raise RunLost(
                f'Redis has lost the run of "{self._plan.name}" and its messages in flight',
                hint="start the run again; flowq doctor shows what this Redis may lose",
            )
        self._has_counted = bool(snapshot.counters)

    async def snapshot(self) -> Snapshot:
        """The state of the pipeline now."""
        return await self._runs().snapshot(self._edges, self._stages)

    async def is_drained(self, snapshot: Snapshot) -> bool:
        """Whether nothing is left to do, of which a snapshot says so."""
        return snapshot.is_drained

    def _runs(self) -> Runs:
        return Runs(self._broker)

    def summary(self, snapshot: Snapshot, seconds: float) -> Summary:
        return Summary(
            self._plan.name,
            snapshot.run.get("id", self.id),
            snapshot.is_drained,
            seconds,
            balance_of(self._plan, snapshot),
            in_transit=snapshot.in_transit,
        )


def poll_seconds(outstanding: int) -> float:
    """How long to wait before looking again: the nearer the end, the shorter."""
    return 0.05 if outstanding < 200 else 0.25
