"""The runs of a pipeline: their sources and cursors, a snapshot of everything, and its balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from flowq.broker import scripts
from flowq.broker.client.retrying import again_if_lost
from flowq.broker.client.rounds import Rounds, ScriptCall
from flowq.broker.keys import GROUP, Keys, is_edge
from flowq.broker.publishing import done
from flowq.broker.records import Snapshot, pairs, snapshot_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.edge import Edge
from flowq.delivery.policy import HASH_BYTES
from flowq.delivery.stored import text_in
from flowq.graph.compilation.plan import Plan, StagePlan


class Runs:
    """The current run of one pipeline, and those before it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def begin(
        self,
        run_id: str,
        *,
        sources: Sequence[str],
        signature: str,
        edges: Sequence[str],
        stages: Sequence[str],
        fresh: bool = False,
        remembering: Collection[str] = (),
        orphans: Sequence[str] = (),
    ) -> tuple[str, bool, dict[str, bool]]:
        """Begin a run or join the unfinished one: its id, whether it is resumed, and which sources have finished.

        What the stages `remembering` have received is remembered beyond the run, unless `fresh`. `orphans` are edges
        that only other versions of the pipeline have.
        """
        names, n_seen = keys_of_run(self._broker.keys, edges, stages, () if fresh else remembering, orphans)
        arguments = (
            run_id, n_seen, len(edges), int(fresh), signature, GROUP, len(orphans), *orphans, *sources,
        )  # fmt: skip
        reply = await again_if_lost(partial(self._broker.script, scripts.START_RUN, names, *arguments))
        finished = {source: bool(done) for source, done in zip(sources, reply[2:], strict=True)}
        return text_in(reply[0]), bool(reply[1]), finished

    async def take_over_seen(self, stages: Sequence[str]) -> None:
        """Begin to pack what an earlier version has stored of the values that these stages have seen, if possible."""
        keys = self._broker.keys
        kinds = keys.seen, keys.unpacked, keys.seen_until, keys.unpacked_until
        names = [keys.workers, *(key(stage) for stage in stages for key in kinds)]
        await again_if_lost(partial(self._broker.script, scripts.TAKE_OVER_SEEN, names, HASH_BYTES))

    async def finish_source(self, source: str, signature: str) -> None:
        """Note that a source has published everything."""
        field, state = f"source:{source}", done(signature)
        await self._broker.answer(b"HSET", self._broker.keys.run, field, state)

    async def is_source_finished(self, source: str, signature: str) -> bool:
        """Whether a source has published everything for these arguments in the current run."""
        state = await self._broker.answer(b"HGET", self._broker.keys.run, f"source:{source}")
        return bool(state == done(signature).encode())

    async def cursor(self, name: str) -> bytes:
        """Where a source resumes; b"" for the beginning."""
        stored = await self._broker.answer(b"HGET", self._broker.keys.cursors, name)
        return stored or b""

    async def cursors(self, source: str) -> dict[bytes, bytes]:
        """The cursors of a source, one for each set of arguments that it was called with."""
        reply = await self._broker.answer(b"HGETALL", self._broker.keys.cursors)
        return {name: cursor for name, cursor in pairs(reply) if name.partition(b" ")[0] == source.encode()}

    async def snapshot(self, edges: Sequence[str], stages: Sequence[str]) -> Snapshot:
        """The whole state in one atomic step: of all edges and stages of the plan, and those of other versions."""
        return await self._broker.read(self.snapshot_reading(edges, stages))

    def snapshot_reading(
        self, edges: Sequence[str], stages: Sequence[str], *, orphans: Collection[str] = ()
    ) -> Rounds[Snapshot]:
        """The same. It takes one round if `orphans` are the edges that only other versions have."""
        known = list(orphans)
        while True:
            orphan_stages = [each for each in dict.fromkeys(Edge.parse(e).target for e in known) if each not in stages]
            every = [*edges, *known]
            (reply,) = yield [self._snapshot(every, [*stages, *orphan_stages])]
            recorded = {text_in(name) for name in reply[-1]}
            unknown = sorted(name for name in recorded.difference(every) if is_edge(name))
            if not unknown:
                return snapshot_of(reply, edges, stages, known, orphan_stages)
            known += unknown  # once more with these: all numbers must be of one instant

    async def partial_snapshot(self, *, edges: Sequence[str] = (), stages: Sequence[str] = ()) -> Snapshot:
        """The state of some edges and stages in one atomic step; nothing of other versions."""
        call = self._snapshot(edges, stages)
        return snapshot_of(await self._broker.script(call.script, call.keys, *call.arguments), edges, stages)

    def _snapshot(self, edges: Sequence[str], stages: Sequence[str]) -> ScriptCall:
        keys = self._broker.keys
        of_all = keys.stats, keys.run, keys.workers, keys.paused, keys.failures, keys.plan
        names = [key for edge in edges for key in (keys.edge(edge), keys.delayed(edge))]
        dead = [keys.dead(stage) for stage in stages]
        return ScriptCall(scripts.SNAPSHOT, [*of_all, *names, *dead], (GROUP, len(edges)))


def keys_of_run(
    keys: Keys, edges: Sequence[str], stages: Sequence[str], remembering: Collection[str], orphans: Sequence[str]
) -> tuple[list[str], int]:
    """The keys of what a run begins with, as `start_run.lua` takes them, and how many are of seen messages."""
    forgetting = [stage for stage in stages if stage not in remembering]
    kinds = keys.seen, keys.unpacked, keys.seen_until, keys.unpacked_until
    seen = [key(stage) for stage in forgetting for key in (*kinds, keys.latest)]
    names = [
        keys.run, keys.stats, keys.failures, keys.cursors, *seen,
        *(key for edge in edges for key in keys.of_edge(edge)),
        *(key(stage) for key in (keys.dead, keys.edited, keys.restored, keys.kept) for stage in stages),
        *(key(edge) for edge in orphans for key in (keys.edge, keys.delayed)),
    ]  # fmt: skip
    return names, len(seen)


@dataclass(frozen=True, slots=True)
class StageBalance:
    """The counters of one stage in the current run, all at one instant.

    `entered` is what was appended to its edges, without duplicates, and without what is still on an edge that only
    another version of the pipeline has. `ok`, `filtered` and `dead` are settled, `purged`
    was removed by hand, and `waiting`, `delayed` and `running` are outstanding. `out` is what it emitted, including
    duplicates. `retries` and `duplicates` are not part of the sum.
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
        """Ready for JSON, with `entered` as `in`."""
        values = asdict(self)
        return {"in": values.pop("entered"), **values}


def balance_of(plan: Plan, snapshot: Snapshot) -> Mapping[str, StageBalance]:
    """The balance of every stage, in the plan's order. A source has only what it emitted."""
    entered, duplicates = Counter[str](), Counter[str]()
    for name, n in snapshot.counters.items():  # those of all versions: a stage settles what came by any of its edges
        kind, _, edge = name.partition(":")
        if kind == "in":
            entered[edge.rpartition(">")[2]] += _entered(edge, n, snapshot)
        elif kind == "duplicates":
            duplicates[edge.rpartition(">")[2]] += n
    return {
        stage.name: _stage_balance(stage, snapshot, entered[stage.name], duplicates[stage.name])
        for stage in plan.stages
    }


def _stage_balance(stage: StagePlan, snapshot: Snapshot, entered: int, duplicates: int) -> StageBalance:
    counters, name = snapshot.counters, stage.name
    edges = [snapshot.edges[edge] for edge in stage.in_edges]
    out = counters.get(f"out:{name}", 0)
    if stage.is_source:
        return StageBalance(entered=out, ok=out, out=out)
    return StageBalance(
        entered=entered,
        ok=counters.get(f"ok:{name}", 0),
        filtered=counters.get(f"filtered:{name}", 0),
        dead=counters.get(f"dead:{name}", 0),
        retries=counters.get(f"retries:{name}", 0),
        duplicates=duplicates,
        waiting=sum(edge.waiting for edge in edges),
        delayed=sum(edge.delayed for edge in edges),
        running=sum(edge.running for edge in edges),
        out=out,
        purged=counters.get(f"purged:{name}", 0),
    )


def _entered(edge: str, counted: int, snapshot: Snapshot) -> int:
    if edge in snapshot.edges:
        return counted
    left = snapshot.orphans.get(edge)
    return max(0, counted - (left.outstanding if left else 0))
