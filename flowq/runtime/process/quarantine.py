"""Runs the messages that crashed workers left, one at a time, so that the next crash identifies its cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import copy_context

from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.workers import Workers
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Output, Postponed
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import deduplicating_edges
from flowq.runtime.death_records import crashed
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.own_context import in_context
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.identity import Identity
from flowq.runtime.stage.batching import BatchCall
from flowq.runtime.stage.early_ack import EarlyAck
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.outbox import Outbox
from flowq.runtime.stage.pacing import Pacer
from flowq.runtime.stage.settler import Settler

_TURN_POLL_SECONDS = 0.1


class Quarantine:
    """The suspects of all stages of a process.

    A crashed worker leaves the messages that it was running and those that it had read ahead: nearly all of them are
    healthy. Here each runs alone. If this process dies too, the message that was running is to blame. Rates and holds
    of its stage apply: a suspect waits here for its turn, and the others wait behind it. It is reclaimed only when its
    turn has come, so that it is not blamed for a death while it waits.
    """

    def __init__(
        self,
        broker: Broker,
        identity: Identity,
        plan: Plan,
        pauses: PauseWatch,
    ) -> None:
        self._broker = broker
        self._identity = identity
        self._pauses = pauses
        self._plan = plan
        self._pacers: dict[str, Pacer] = {}
        self._all_edges = [edge.name for edge in plan.edges]
        self._handlings: dict[str, Handling | ProcessHandling] = {}
        self._early: dict[str, EarlyAck] = {}
        self._deduplicating = deduplicating_edges(plan)
        self._settling = Settling(
            broker, self._deduplicating, plan.keeping, ClaimCheck.of(broker, plan), keeps_answers=True
        )
        self._settlers: dict[str, Settler] = {}

    def add(self, handling: Handling | ProcessHandling) -> None:
        """Run the suspects of one more stage."""
        stage, identity = handling.stage, self._identity
        self._handlings[stage.name] = handling
        in_flight = InFlight(Backpressure(self._broker, []))
        settler = self._settlers[stage.name] = Settler(stage, self._settling, identity, in_flight)
        if stage.rate is not None:
            self._pacers[stage.name] = Pacer(stage, self._plan, stage.rate, self._broker, identity)
        outbox = Outbox(self._broker, stage.name, self._settling, in_flight)
        self._early[stage.name] = EarlyAck(self._broker, stage, settler, outbox)

    async def run(self) -> None:
        """Run suspects until there are none."""
        while await retry_until_available(self._next_round, what="quarantine"):
            pass
        await self._settling.close()

    async def _next_round(self) -> bool:
        """Visit all crashed workers once. Returns whether anything was found."""
        found = False
        crashed_workers = crashed(await Workers(self._broker).death_records())
        stages = [handling.stage for handling in self._handlings.values()]
        consumers = await Workers(self._broker).consumers_of(self._all_edges)
        for stage in stages:
            for edge in stage.in_edges:
                for victim in consumers[edge] & set(crashed_workers):
                    found = await self._take_from(stage, edge, victim, crashed_workers[victim]) or found
        left_nothing = set(crashed_workers).difference(*consumers.values())
        if not found:
            await Workers(self._broker).forget(sorted(left_nothing))
        return found

    async def _take_from(self, stage: StagePlan, edge: str, victim: str, how: str) -> bool:
        await self._pauses.while_paused(stage.name)
        found = False
        while True:
            next_up = await self._wait_for_turn(stage, edge, victim)
            taken = await Workers(self._broker).reclaim(edge, victim, self._identity.worker, limit=1, crashed=how)
            deliveries: Sequence[Delivery] = taken.deliveries if taken else ()
            has_turn = next_up is not None and [d.entry_id for d in deliveries] == [next_up.entry_id]
            if next_up is not None and not has_turn:  # it was buried, or another quarantine was faster
                self._pacers[stage.name].let_go(next_up)
                await self._pacers[stage.name].flush()
            for delivery in deliveries:
                await self._run_alone(stage, delivery, has_turn=has_turn)
                await Workers(self._broker).clear_suspicion(delivery)
            found = found or taken is not None
            if taken is None or taken.finished:
                return found

    async def _wait_for_turn(self, stage: StagePlan, edge: str, victim: str) -> Delivery | None:
        """Wait until the next suspect of a paced stage may start, and return it. None if there is none to wait for."""
        pacer = self._pacers.get(stage.name)
        if pacer is None:
            return None
        next_up = await Workers(self._broker).first_left_by(victim, edge, self._identity.worker)
        if next_up is not None:
            await _turn_of(next_up, pacer)
        return next_up

    async def _run_alone(self, stage: StagePlan, delivery: Delivery, *, has_turn: bool) -> None:
        handling, settler = self._handlings[stage.name], self._settlers[stage.name]
        pacer = self._pacers.get(stage.name)
        if pacer is not None and (not has_turn or pacer.has_missed(delivery)):
            await _turn_of(delivery, pacer, again=has_turn)
        if stage.batch is not None and isinstance(handling, Handling):
            began_at, call = time.monotonic(), BatchCall(handling, [delivery])
            await in_context(copy_context(), call.run)
            for deliveries, outcome in call.outcomes:
                if pacer is not None:
                    outcome = await pacer.judge(deliveries, outcome, time.monotonic() - began_at)
                settler.add(deliveries, outcome)
        else:
            early = self._early[stage.name]
            if stage.ack is not AckMode.FIRST or await early.win([delivery]):
                began_at = time.monotonic()
                outcome = await in_context(copy_context(), handling.handle, delivery)
                if pacer is not None:
                    outcome = await pacer.judge([delivery], outcome, time.monotonic() - began_at)
                await early.conclude(delivery, outcome)
                await early.outbox.flush()
            elif pacer is not None:
                pacer.let_go(delivery)
        await settler.flush()
        if pacer is not None:
            await pacer.flush()

    async def commit(self, stage: str, delivery: Delivery, outputs: Sequence[Output]) -> None:
        """Settle a delivery while its handler is still running."""
        await self._early[stage].commit(delivery, outputs)


async def _turn_of(delivery: Delivery, pacer: Pacer, *, again: bool = False) -> None:
    """Wait until a delivery may start. It keeps asking: once postponed, it would run in an ordinary worker."""
    while True:
        (turn,) = await pacer.turns([delivery], again=again)
        if isinstance(turn, Postponed):
            await asyncio.sleep(_TURN_POLL_SECONDS)
        else:
            await asyncio.sleep(turn.wait_seconds)
            if not pacer.has_missed(delivery):
                return
        again = True
