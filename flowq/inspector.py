"""Reads the state of a pipeline, and puts its dead letters back: for programs, the command line and dashboards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from flowq.broker import pauses
from flowq.broker.balance import StageBalance, balance_of
from flowq.broker.overview import Overview, overview_of
from flowq.broker.recorded_plan import Orphan, orphans_of
from flowq.broker.records import WHOLE, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.tempo import Tempo, tempo_of
from flowq.broker.turns import HeldKey, held_keys
from flowq.broker.vitals import RunningMessage, slowest_of
from flowq.graph.plan import Plan
from flowq.repair.dead_letters import DeadLetters
from flowq.repair.letter import DeadLetterGroup, DeadLetterRecord
from flowq.repair.selection import Selection


class Inspector:
    """Looks at one pipeline while it runs or rests; needs no worker.

    `stage`, `error` and `ids` narrow down dead letters: `error` is a glob over their `line`, `ids` are ids of letters
    or of messages. Letters are listed by stage in the plan's order, within a stage in the order in which they died.

    Methods raise BrokerUnavailable when Redis does not answer, and NotFound for a stage that the plan does not have.

    >>> from flowq.broker.open import open_broker
    >>> async def repair(pipeline):
    ...     async with open_broker(pipeline.name, redis="redis://localhost:6379/0") as broker:
    ...         return await Inspector(pipeline.plan, broker).replay("fetch", error="*HTTP 503*")
    """

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self._dead = DeadLetters(plan, broker)

    @property
    def plan(self) -> Plan:
        """The plan of the pipeline that it looks at."""
        return self._plan

    async def snapshot(self) -> Snapshot:
        """The whole state, from one instant."""
        plan = self._plan
        return await self._broker.snapshot([edge.name for edge in plan.edges], [stage.name for stage in plan.consumers])

    async def balance(self) -> Mapping[str, StageBalance]:
        """The counters of every stage, from one instant: they add up."""
        return balance_of(self._plan, await self.snapshot())

    async def tempo(self) -> Mapping[str, Tempo]:
        """How fast every stage has been in the last half minute."""
        return await tempo_of(self._broker, self._plan, await self.snapshot())

    async def overview(self) -> Overview:
        """The whole pipeline at a glance: counters, speeds, ages, workers and memory, where it is held up."""
        return await overview_of(self._broker, self._plan)

    async def slowest(self, limit: int = 5, *, at_least_seconds: float = 0.5) -> list[RunningMessage]:
        """The messages that have been running longest."""
        edges = [edge.name for edge in self._plan.edges]
        return await slowest_of(self._broker, edges, limit=limit, at_least_seconds=at_least_seconds)

    async def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """The workers that are alive, by name, with what they told of themselves.

        A worker that was killed counts until its lease has run out.
        """
        registered = await self._broker.registered_workers()
        leases = await self._broker.leases(list(registered))
        return {name: facts for name, facts in sorted(registered.items()) if leases[name] is not None}

    async def held_keys(self) -> list[HeldKey]:
        """The pacing keys on hold, with the reason and the time left; those held longest first within a stage."""
        return await held_keys(self._broker, [stage.name for stage in self._plan.consumers if stage.rate is not None])

    async def orphans(self) -> list[Orphan]:
        """Edges that an earlier version of the pipeline had and this one has not, with what lies on them."""
        return await orphans_of(self._broker, self._plan)

    # Steering

    async def pause(self, stage: str | None = None) -> bool:
        """Have a stage, or the whole pipeline, start nothing new; whether it was not paused before.

        Workers notice within a second. What they run finishes, and everything else waits, until it is resumed:
        restarts change nothing.
        """
        return await pauses.pause(self._broker, [self._steered(stage)])

    async def resume(self, stage: str | None = None) -> bool:
        """Take back a pause, without `stage` all of this pipeline; whether there was one.

        A stage goes on only when the whole pipeline is not paused either.
        """
        if stage is None:
            return await pauses.resume(self._broker, list(await pauses.paused_since(self._broker)))
        return await pauses.resume(self._broker, [self._steered(stage)])

    async def pause_key(self, stage: str, key: str) -> None:
        """Have a stage start nothing new of one pacing key, such as one host; it must have a `rate`."""
        await pauses.pause_key(self._broker, self._plan.stage(stage).name, key)

    async def resume_key(self, stage: str, key: str) -> bool:
        """End the pause of a pacing key, or a hold that a handler has asked for; whether there was one."""
        return await pauses.resume_key(self._broker, self._plan.stage(stage).name, key)

    async def paused(self) -> Mapping[str, int]:
        """The stages that are paused, "*" for all of them, and since when, in milliseconds since 1970."""
        return await pauses.paused_since(self._broker)

    def _steered(self, stage: str | None) -> str:
        return WHOLE if stage is None else self._plan.stage(stage).name

    # Dead letters: the everyday part of `flowq.repair.dead_letters`

    async def dead_letters(
        self, stage: str | None = None, *, error: str | None = None, ids: Collection[str] = (), limit: int = 100
    ) -> list[DeadLetterRecord]:
        """The first `limit` dead letters."""
        return await self._dead.first(Selection(stage, error, ids), limit=limit)

    def each_dead_letter(
        self, stage: str | None = None, *, error: str | None = None, ids: Collection[str] = ()
    ) -> AsyncIterator[DeadLetterRecord]:
        """Every dead letter that is there now, read a few at a time. Those that die meanwhile are left out."""
        return self._dead.each(Selection(stage, error, ids))

    async def groups(self, stage: str | None = None, *, error: str | None = None) -> list[DeadLetterGroup]:
        """Dead letters counted by stage and fingerprint, the most frequent of a stage first."""
        return await self._dead.groups(Selection(stage, error))

    async def replay(
        self,
        stage: str | None = None,
        *,
        error: str | None = None,
        ids: Collection[str] = (),
        dry_run: bool = False,
    ) -> Mapping[str, int]:
        """Put dead letters back on the edges they came from, to be run again; returns how many, by stage.

        See `DeadLetters.put_back`, which can do more.
        """
        return await self._dead.put_back(Selection(stage, error, ids), dry_run=dry_run)
