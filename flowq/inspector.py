"""Reads the state of a pipeline and retries its dead letters: for programs, the command line and dashboards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowq.broker.audit import Audit, AuditRecord
from flowq.broker.flow_control.pauses import Pauses
from flowq.broker.inspection.edge_stats import RunningMessage
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.inspection.merging.readings import (
    held_in_all_shards,
    slowest_of_all_shards,
    throughput_of_all_shards,
)
from flowq.broker.inspection.merging.snapshots import merged_facts, snapshot_of_all_shards
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.migration.recorded_plan import Orphan, RecordedPlan
from flowq.broker.open import SharedBroker, open_broker
from flowq.broker.records import WHOLE, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import StageBalance, balance_of
from flowq.broker.shards.every_shard import ask_every_shard
from flowq.broker.workers import Workers
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter import DeadLetterGroup, DeadLetterRecord
from flowq.dead_letters.selection import Selection
from flowq.graph.compilation.plan import Plan
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline


class Inspector:
    """Inspects one pipeline, whether it is running or not; needs no worker. Use it in an `async with`.

    Several tasks may enter the same inspector, as with a `Publisher`. It belongs to one event loop at a time.

    pipeline: the pipeline, or its plan.
    broker: an open broker of the pipeline, from `flowq.broker.open.open_broker`. The inspector then needs no
        `async with`, does not close the broker, and ignores the other parameters.
    redis: the URL of the server, "embedded" for the one that flowq runs itself for the project, or "memory" for a fake
        server that ends with this inspector.
    namespace: the prefix of all keys in Redis, the same as the workers use.
    claim_store: the folder, or the URL of the bucket, where stages with `claim_above=` keep large bodies. By default a
        folder in `.flowq/`, if the server is there as well.

    An argument that is None comes from the same places as for the command line: `FLOWQ_*` variables, or [tool.flowq]
    in the pyproject.toml of the project that the current folder is in. Options that are set there for the stages of a
    pipeline (not of a plan) apply as well.

    Opening raises NotConfigured if no Redis is named anywhere, SettingsError for a setting that is wrong,
    BrokerUnavailable if Redis cannot be reached, and UsageError for a bad URL. Methods raise
    BrokerUnavailable when Redis does not answer, NotFound for a stage that is not in the plan, and UsageError for an
    inspector that is not open.

    Several methods select dead letters with the same parameters:

    stage: only letters of this stage; None for all, in the plan's order, the oldest of a stage first.
    error: a glob matched against their `line`, such as "*HTTP 503*"; None for all.
    ids: only letters with these ids, or of messages with these ids; empty for all.

    >>> import asyncio
    >>> from flowq import Pipeline, stage
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> async def main() -> None:
    ...     async with Inspector(Pipeline("greetings", greet), redis="memory") as inspector:
    ...         print((await inspector.balance())["greet"].waiting)
    ...         retried = await inspector.retry_dead_letters("greet", error="*HTTP 503*")
    ...         print(sum(retried.values()))
    >>> asyncio.run(main())
    0
    0
    """

    def __init__(
        self,
        pipeline: Pipeline | Plan,
        broker: Broker | None = None,
        *,
        redis: str | None = None,
        namespace: str | None = None,
        claim_store: str | Path | None = None,
    ) -> None:
        self._pipeline = None if isinstance(pipeline, Plan) else pipeline
        self._plan: Plan = pipeline if isinstance(pipeline, Plan) else pipeline.plan
        self._given = broker
        self._configured = partial(Settings.of_program, redis=redis, namespace=namespace, claim_store=claim_store)
        self._seen: Overview | None = None  # the last overview
        self._shared = SharedBroker("inspector", self._opening, remedy="async with inspector: ...")

    async def __aenter__(self) -> Self:
        if self._given is None:
            await self._shared.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shared.leave()

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        settings = self._configured()
        if self._pipeline is not None:
            self._plan = settings.tuned(self._pipeline.name, self._pipeline).plan
        return open_broker(self._plan.name, settings, self._plan.shards)

    @property
    def _broker(self) -> Broker:
        return self._given or self._shared.opened

    @property
    def _dead(self) -> DeadLetters:
        return DeadLetters(self._plan, self._broker)

    @property
    def plan(self) -> Plan:
        """The plan of the inspected pipeline."""
        return self._plan

    async def snapshot(self) -> Snapshot:
        """The whole state at one instant."""
        plan = self._plan
        edges, stages = [edge.name for edge in plan.edges], [stage.name for stage in plan.consumers]
        return await snapshot_of_all_shards(self._broker, edges, stages)

    async def balance(self) -> Mapping[str, StageBalance]:
        """The counters of every stage, read at one instant, so that they add up."""
        return balance_of(self._plan, await self.snapshot())

    async def throughput(self) -> Mapping[str, Throughput]:
        """The speed of every stage in the last half minute."""
        return await throughput_of_all_shards(self._broker, self._plan)

    async def overview(self) -> Overview:
        """The whole pipeline at a glance: counters, speeds, ages, errors, workers, memory, causes and forecasts."""
        self._seen = await overview_of(self._broker, self._plan, before=self._seen)
        return self._seen

    async def slowest(self, limit: int = 5, *, at_least_seconds: float = 0.5) -> list[RunningMessage]:
        """The `limit` messages that have been running longest, and for `at_least_seconds`."""
        edges = [edge.name for edge in self._plan.edges]
        return await slowest_of_all_shards(self._broker, edges, limit=limit, at_least_seconds=at_least_seconds)

    async def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """The live workers by name, with the facts that they registered.

        A killed worker counts until its lease expires.
        """

        async def living(shard: Broker) -> list[Mapping[str, Any]]:
            registered = await Workers(shard).registered()
            leases = await Workers(shard).leases(list(registered))
            return [{**facts, "worker": name} for name, facts in registered.items() if leases[name] is not None]

        found = merged_facts(facts for each in (await ask_every_shard(self._broker, living)).whole for facts in each)
        return {facts["worker"]: facts for facts in sorted(found, key=lambda facts: str(facts["worker"]))}

    async def held_keys(self) -> list[HeldKey]:
        """The pacing keys on hold, with reason and time left; longest hold first within a stage."""
        paced = [stage.name for stage in self._plan.consumers if stage.rate is not None]
        return await held_in_all_shards(self._broker, paced)

    async def orphans(self) -> list[Orphan]:
        """Edges that only an earlier version of the pipeline had, with the messages left on them."""
        return await RecordedPlan(self._broker).orphans(self._plan)

    async def audit(self, limit: int = 20) -> list[AuditRecord]:
        """The last actions on this pipeline, by command or on the web page, latest first.

        Redis keeps the last thousand. Methods of this class are not recorded.
        """
        return await Audit(self._broker).latest(limit)

    # Steering

    async def pause(self, stage: str | None = None) -> bool:
        """Stop a stage, or the whole pipeline, from starting anything new. Returns False if it was paused already.

        Workers notice within a second. Running messages finish and all others wait until the pause is lifted; restarts
        do not lift it.
        """
        return await Pauses(self._broker).pause([self._steered(stage)])

    async def resume(self, stage: str | None = None) -> bool:
        """Lift the pause of a stage, or without `stage` all pauses of this pipeline. Returns whether there was one.

        A stage resumes only when the whole pipeline is not paused either.
        """
        if stage is None:
            return await Pauses(self._broker).resume(list(await Pauses(self._broker).since()))
        return await Pauses(self._broker).resume([self._steered(stage)])

    async def pause_key(self, stage: str, key: str) -> None:
        """Stop a stage from starting new messages of one pacing key, such as one host; it must have a `rate`.

        `key` is the value of `Rate(by=...)`, as text.
        """
        await Pauses(self._broker).pause_key(self._plan.stage(stage).name, key)

    async def resume_key(self, stage: str, key: str) -> bool:
        """End the pause of a pacing key, or a hold requested by a handler. Returns whether there was one."""
        return await Pauses(self._broker).resume_key(self._plan.stage(stage).name, key)

    async def paused(self) -> Mapping[str, int]:
        """The paused stages ("*" is the whole pipeline) and the start of each pause, in milliseconds since 1970."""
        return await Pauses(self._broker).since()

    def _steered(self, stage: str | None) -> str:
        return WHOLE if stage is None else self._plan.stage(stage).name

    # Dead letters: the everyday part of `flowq.dead_letters.dead_letters`

    async def dead_letters(
        self, stage: str | None = None, *, error: str | None = None, ids: Collection[str] = (), limit: int = 100
    ) -> list[DeadLetterRecord]:
        """The first `limit` of the selected dead letters."""
        return await self._dead.first(Selection(stage, error, ids), limit=limit)

    def each_dead_letter(
        self, stage: str | None = None, *, error: str | None = None, ids: Collection[str] = ()
    ) -> AsyncIterator[DeadLetterRecord]:
        """Every selected dead letter there is now, read a few at a time. Later ones are left out."""
        return self._dead.each(Selection(stage, error, ids))

    async def groups(self, stage: str | None = None, *, error: str | None = None) -> list[DeadLetterGroup]:
        """Dead letters counted by stage and fingerprint, the most frequent of a stage first."""
        return await self._dead.groups(Selection(stage, error))

    async def retry_dead_letters(
        self,
        stage: str | None = None,
        *,
        error: str | None = None,
        ids: Collection[str] = (),
        dry_run: bool = False,
    ) -> Mapping[str, int]:
        """Put the selected dead letters back on their edges, to be handled again; returns their number by stage.

        `dry_run`: only count them. `DeadLetters.put_back` has more options.
        """
        return await self._dead.put_back(Selection(stage, error, ids), dry_run=dry_run)
