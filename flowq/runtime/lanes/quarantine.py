"""Runs the messages that crashed workers left, one at a time, so that the next crash identifies its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.delivery.message import Delivery
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Postponed
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.runtime.death_records import crashed
from flowq.runtime.handlers.handling import Commit, Handling
from flowq.runtime.handlers.own_context import in_context
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.identity import Identity
from flowq.runtime.stage.batching import BatchCall
from flowq.runtime.stage.early_ack import EarlyAck
from flowq.runtime.stage.early_outputs import EarlyOutputs
from flowq.runtime.stage.in_flight import InFlight
from flowq.runtime.stage.pacing import Pacer
from flowq.runtime.stage.settler import Settler
from flowq.runtime.stage.writing import Writing

_TURN_POLL_SECONDS = 0.1


@dataclass(slots=True)
class _Ward:
    """What runs the suspects of one stage."""

    settler: Settler
    early: EarlyAck
    pacer: Pacer | None
    handling: Handling | ProcessHandling


class Quarantine:
    """The suspects of all stages of a process.

    A crashed worker leaves the messages that it was running and those that it had read ahead: nearly all of them are
    healthy. Here each runs alone. If this process dies too, the message that was running is to blame. Rates and holds
    of its stage apply: a suspect waits here for its turn, and the others wait behind it. It is reclaimed only when its
    turn has come, so that it is not blamed for a death while it waits.
    """

    def __init__(self, broker: Broker, identity: Identity, plan: Plan, pauses: PauseWatch, writing: Writing) -> None:
        self._broker = broker
        self._workers = Workers(broker)
        self._identity = identity
        self._pauses = pauses
        self._plan = plan
        self._now = broker.world.monotonic
        self._wards: dict[str, _Ward] = {}
        self._settling = writing.settling(keeps_answers=True)
        self._publishing = writing.publishing()

    def add(self, stage: StagePlan, make: Callable[[Commit], Handling | ProcessHandling]) -> None:
        """Run the suspects of one more stage, with the handler that `make` returns."""
        broker, identity = self._broker, self._identity
        in_flight = InFlight(Backpressure(broker, []), world=broker.world)
        settler = Settler(stage, self._settling, identity, in_flight)
        outbox = EarlyOutputs(broker, stage.name, self._settling, in_flight, self._publishing)
        early = EarlyAck(broker, stage, settler, outbox)
        pacer = Pacer(stage, self._plan, stage.rate, broker, identity) if stage.rate is not None else None
        self._wards[stage.name] = _Ward(settler, early, pacer, make(early.commit))

    async def next_round(self) -> bool:
        """Visit all crashed workers once. Returns whether anything was found."""
        return await retry_until_available(self._broker.world, self.visit_all, what="quarantine")

    async def close(self) -> None:
        """Close its connection."""
        await self._settling.close()

    async def visit_all(self) -> bool:
        """As `next_round`, but raises BrokerUnavailable if Redis does not answer."""
        found = False
        victims = crashed(await self._workers.death_records())
        consumers = await self._workers.consumers_of([edge.name for edge in self._plan.edges])
        for ward in self._wards.values():
            for edge in ward.handling.stage.in_edges:
                for victim in sorted(consumers[edge] & set(victims)):
                    found = await self._run_all(ward, edge, victim, victims[victim]) or found
        if not found:
            await self._workers.forget(sorted(set(victims).difference(*consumers.values())))
        return found

    async def _run_all(self, ward: _Ward, edge: str, victim: str, how: str) -> bool:
        await self._pauses.while_paused(ward.handling.stage.name)
        found = False
        while True:
            next_up = await self._wait_for_turn(ward, edge, victim)
            taken = await self._workers.reclaim(edge, victim, self._identity.worker, limit=1, crashed=how)
            deliveries: Sequence[Delivery] = taken.deliveries if taken else ()
            has_turn = next_up is not None and [d.entry_id for d in deliveries] == [next_up.entry_id]
            if ward.pacer is not None and next_up is not None and not has_turn:
                ward.pacer.let_go(next_up)  # it was buried, or another quarantine was faster
                await ward.pacer.flush()
            for delivery in deliveries:
                await _run_alone(ward, delivery, self._now, has_turn=has_turn)
                await self._workers.clear_suspicion(delivery)
            found = found or taken is not None
            if taken is None or taken.finished:
                return found

    async def _wait_for_turn(self, ward: _Ward, edge: str, victim: str) -> Delivery | None:
        """Wait until the next suspect of a paced stage may start, and return it. None if there is none to wait for."""
        if ward.pacer is None:
            return None
        next_up = await self._workers.first_left_by(victim, edge, self._identity.worker)
        if next_up is not None:
            await _turn_of(next_up, ward.pacer)
        return next_up


async def _run_alone(ward: _Ward, delivery: Delivery, now: Callable[[], float], *, has_turn: bool) -> None:
    handling, settler, early, pacer = ward.handling, ward.settler, ward.early, ward.pacer
    if pacer is not None and (not has_turn or pacer.has_missed(delivery)):
        await _turn_of(delivery, pacer, again=has_turn)
    if handling.stage.batch is not None and isinstance(handling, Handling):
        began_at, call = now(), BatchCall(handling, [delivery])
        await in_context(copy_context(), call.run)
        took_seconds = now() - began_at
        for deliveries, outcome in call.outcomes:
            if pacer is not None:
                outcome = await pacer.judge(deliveries, outcome, took_seconds)
            settler.add(deliveries, outcome)
    elif handling.stage.ack is not AckMode.FIRST or await early.win([delivery]):
        began_at = now()
        outcome = await in_context(copy_context(), handling.handle, delivery)
        if pacer is not None:
            outcome = await pacer.judge([delivery], outcome, now() - began_at)
        await early.conclude(delivery, outcome)
        await early.outbox.flush()
    elif pacer is not None:
        pacer.let_go(delivery)
    await settler.flush()
    if pacer is not None:
        await pacer.flush()


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
