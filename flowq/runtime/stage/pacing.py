"""Keeps the starts of a stage within its rate, per key and over all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.limiter import Finished, Limiter, Reservation, Verdict, slot_of
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate
from flowq.delivery.settlement import Failed, Interrupted, Outcome, Postponed, Succeeded, TimedOut
from flowq.errors import BodyElsewhere, DecodeError, Reject, RetryLater
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.stored_keys import StoredKeys
from flowq.large_bodies.store import redeem
from flowq.runtime.identity import Identity
from flowq.runtime.server_clock import ServerClock
from flowq.runtime.stage.read_ahead import LOCAL_WORK_SECONDS
from flowq.runtime.waiting import pause_until

_Entry = tuple[str, bytes]  # two edges may have the same entry id

_SWEEP_SECONDS = 1.0
_LATE_SECONDS = 0.1
_LONGEST_LEAD_SECONDS = 1.5  # Redis grants turns up to two seconds ahead
_MOST_QUESTIONS = 3
_PACE_SAID_SECONDS, _MOST_PACES = 600.0, 10_000  # Redis keeps a pace for an hour
_MOST_STEPS = 10  # of a thousand keys: more than a worker starts in a second


class _Start(NamedTuple):
    """When a turn begins: by the clock of this process, and by that of Redis, in seconds."""

    at: float
    for_redis: float


class _Grant(NamedTuple):
    """What Redis decided about the turn of a delivery, and the name of the worker that asked."""

    key: str
    delivery: Delivery
    reservation: Reservation
    start: _Start
    worker: str

    @property
    def entry(self) -> _Entry:
        return self.delivery.edge, self.delivery.entry_id

    @property
    def is_turn(self) -> bool:
        return not (self.reservation.must_queue or self.reservation.is_postponed)

    def has_lapsed(self, now: float, worker: str) -> bool:
        """Whether the turn has passed, or the worker has another name by now, so that Redis has freed its slots."""
        return self.is_turn and (self.worker != worker or self.start.at < now - _LATE_SECONDS)

    def decision(self, now: float) -> Reservation | Postponed:
        """How the delivery continues."""
        if self.reservation.must_queue:
            return Postponed(key=self.key)
        if self.reservation.is_postponed:
            return Postponed(self.reservation.wait_seconds, granted=True)
        return self.reservation._replace(wait_seconds=max(0.0, self.start.at - now))


class Pacer:
    """Reserves the turns of deliveries, a batch at a time, reports those that have finished, and holds keys.

    The key of a message is the value of `Rate(by=...)`, or the stage itself. A message whose key cannot be determined
    is not paced: handling it will show what is wrong with it.
    """

    def __init__(self, stage: StagePlan, plan: Plan, rate: Rate, broker: Broker, identity: Identity) -> None:
        self._stage = stage
        self._rate = rate
        self._identity = identity
        self._claims = broker.claims
        self._world = broker.world
        self._now = broker.world.monotonic  # not the time of the loop, which stands still while a handler blocks it
        self._limiter = Limiter(broker, stage.name, stage.in_edges, rate)
        self._keys = StoredKeys(stage, plan)
        self._reports_all = rate.concurrency is not None or rate.adaptive
        self._limited = {key for key, own in rate.keys.items() if own.concurrency is not None}
        self._started: dict[_Entry, tuple[str, str]] = {}  # key and worker of those to report
        self._starts: dict[_Entry, _Start] = {}  # of turns that have been granted and not used
        self._reserving = asyncio.Lock()
        self._clock = ServerClock()
        self._latency_seconds = 0.0
        self._calling = asyncio.Lock()
        self._finished: list[Finished] = []
        self._look_at: set[str] = set()
        self._paces: dict[str, tuple[float, float]] = {}  # what ctx.pace() asked for, and how long Redis keeps it
        self._news = asyncio.Event()
        self._swept_at = 0.0
        self._broker = broker
        self._losses = 0  # those of the broker that have been looked into

    # Before

    async def turns(self, deliveries: Sequence[Delivery], *, again: bool = False) -> list[Reservation | Postponed]:
        """The turn of each delivery, or its postponement. `again`: they have missed their turns."""
        keys = await self._keys_of(deliveries)
        asked = [(key, delivery) for key, delivery in zip(keys, deliveries, strict=True) if key is not None]
        if not asked:
            return [Reservation() for _ in deliveries]
        async with self._reserving:
            grants = await self._reserve(asked, again)
        for grant in grants:
            self._note(grant)
        now = self._now()
        decisions = iter([grant.decision(now) for grant in grants])
        return [Reservation() if key is None else next(decisions) for key in keys]

    def _note(self, grant: _Grant) -> None:
        if not grant.is_turn:
            self._started.pop(grant.entry, None)
            self._starts.pop(grant.entry, None)
            return
        self._starts[grant.entry] = grant.start
        if self._reports_all or grant.reservation.is_probe or grant.key in self._limited:
            self._started[grant.entry] = grant.key, grant.worker

    async def _reserve(self, asked: Sequence[tuple[str, Delivery]], again: bool) -> list[_Grant]:
        """Reserve the turn of each delivery.

        A reply that was slow, or lost and repeated, grants turns that have passed. Their deliveries ask again, for
        turns later by the current latency of replies; after a few attempts in vain they are postponed.
        """
        granted: dict[_Entry, _Grant] = {}
        entries = [(delivery.edge, delivery.entry_id) for _, delivery in asked]
        missed = {entry: self._starts[entry].for_redis for entry in entries if entry in self._starts} if again else {}
        lapsed: list[_Grant] = []
        for _ in range(_MOST_QUESTIONS):
            grants = await self._ask(asked, again=again, missed=missed)
            granted.update((grant.entry, grant) for grant in grants)
            now, worker = self._now(), self._identity.worker
            lapsed = [grant for grant in grants if grant.has_lapsed(now, worker)]
            if not lapsed:
                break
            again, missed = True, {grant.entry: grant.start.for_redis for grant in lapsed}
            asked = [(grant.key, grant.delivery) for grant in lapsed]
        for grant in lapsed:
            self._finished.append(Finished(grant.key, grant.worker, slot_of(*grant.entry), 0.0, Verdict.NOT_RUN))
            self._news.set()
            granted[grant.entry] = grant._replace(reservation=Reservation(_LATE_SECONDS, is_postponed=True))
        return [granted[entry] for entry in entries]

    async def _ask(
        self, asked: Sequence[tuple[str, Delivery]], *, again: bool, missed: Mapping[_Entry, float]
    ) -> list[_Grant]:
        worker = self._identity.worker
        is_slow = self._latency_seconds > _LATE_SECONDS / 2
        lead = min(2 * self._latency_seconds, _LONGEST_LEAD_SECONDS) if is_slow else 0.0
        sent_at, token, soon = self._now(), self._limiter.new_token(), LOCAL_WORK_SECONDS + lead
        reserve = partial(
            self._limiter.reserve, asked, worker=worker, soon_seconds=soon, lead_seconds=lead, again=again,
            missed=missed, token=token,
        )  # fmt: skip
        reservations = await retry_until_available(self._world, reserve, what=f"pacing {self._stage.name}")
        arrived_at, reserved_at = self._now(), self._limiter.reserved_at
        self._latency_seconds = arrived_at - sent_at
        self._clock.note(sent_at, arrived_at, reserved_at)
        starts = [reserved_at + reservation.wait_seconds for reservation in reservations]
        return [
            _Grant(key, delivery, reservation, _Start(self._clock.local(at), at), worker)
            for (key, delivery), reservation, at in zip(asked, reservations, starts, strict=True)
        ]

    def has_missed(self, delivery: Delivery) -> bool:
        """Whether its turn has passed. Then it must ask again: after a standstill, all of them would start at once."""
        start = self._starts.get((delivery.edge, delivery.entry_id))
        return start is not None and start.at + _LATE_SECONDS < self._now()

    def let_go(self, delivery: Delivery) -> None:
        """Report that this delivery will not be started here."""
        self._report(delivery, 0.0, Verdict.NOT_RUN)

    # After

    async def judge(self, deliveries: Sequence[Delivery], outcome: Outcome, took_seconds: float) -> Outcome:
        """Hold the keys if their handler asked for that, and report the outcome to Redis.

        The outcome that is returned says for how long a key is held.
        """
        for delivery in deliveries:
            if isinstance(outcome, Failed) and isinstance(outcome.error, RetryLater) and outcome.error.hold:
                outcome = replace(outcome, error=await self._hold(delivery, outcome.error))
            elif isinstance(outcome, Succeeded) and outcome.pace_seconds:
                await self._pace(delivery, outcome.pace_seconds)
            self._report(delivery, took_seconds, _verdict(outcome))
        return outcome

    async def _hold(self, delivery: Delivery, error: RetryLater) -> RetryLater:
        key = await self._key_of_claimed(delivery)
        if key is None:
            return error
        hold = partial(self._limiter.hold, key, error.after, error.reason, token=self._limiter.new_token())
        seconds = await retry_until_available(self._world, hold, what=f"holding {key}")
        return RetryLater(error.reason, after=seconds, hold=error.hold)

    async def _pace(self, delivery: Delivery, seconds: float) -> None:
        """Pass on the pace that a handler asks for, at long intervals: it may ask with every message."""
        key = await self._key_of_claimed(delivery)
        if key is None or ((said := self._paces.get(key)) is not None and said[0] == seconds and self._now() < said[1]):
            return
        if await retry_until_available(self._world, partial(self._limiter.pace, key, seconds), what=f"pacing {key}"):
            if len(self._paces) >= _MOST_PACES:
                self._paces.clear()
            self._paces[key] = seconds, self._now() + _PACE_SAID_SECONDS

    def _report(self, delivery: Delivery, took_seconds: float, verdict: Verdict) -> None:
        entry = delivery.edge, delivery.entry_id
        self._starts.pop(entry, None)
        started = self._started.pop(entry, None)
        if started is not None:
            self._finished.append(Finished(*started, slot_of(*entry), took_seconds, verdict))
            self._news.set()

    def queued(self, keys: Iterable[str | None]) -> None:
        """Messages of these keys have joined their queues: look whether the keys are free."""
        if queued := {key for key in keys if key is not None}:
            self._look_at |= queued
            self._news.set()

    async def run(self) -> None:
        """Report what has finished, and sweep for forgotten queues now and then, until cancelled."""
        while True:
            await pause_until(self._news, _SWEEP_SECONDS, self._world)
            is_due = self._now() - self._swept_at >= _SWEEP_SECONDS  # even if news of other keys never stops
            if is_due:
                self._swept_at = self._now()
            await self.flush(sweep=is_due)
            if is_due and self._broker.losses != self._losses:
                await self._free_forgotten()
            if is_due and self._rate.by is not None:
                await self._forget()

    async def flush(self, *, sweep: bool = False) -> None:
        """Report what has finished."""
        async with self._calling:
            self._news.clear()
            finished, self._finished = self._finished, []
            keys, self._look_at = self._look_at, set()
            what, new_token = f"returning turns in {self._stage.name}", self._limiter.new_token
            if finished:
                finish = partial(self._limiter.finish, finished, token=new_token())
                keys.update(await retry_until_available(self._world, finish, what=what))
            if keys or sweep:
                dequeue = partial(self._limiter.dequeue, sorted(keys), sweep=sweep, token=new_token())
                self.queued(await retry_until_available(self._world, dequeue, what=what))

    async def _free_forgotten(self) -> None:
        """Free slots and probes of messages that have finished here: a failover may have forgotten that they were.

        Other workers leave them alone while this one lives, and so their keys would stay blocked.
        """
        self._losses = self._broker.losses
        async with self._reserving, self._calling:  # else what is reserved or freed meanwhile would be freed as well
            what = f"freeing slots of {self._stage.name}"
            look = partial(self._limiter.started_by, self._identity.names)
            started = await retry_until_available(self._world, look, what=what)
            known = {each[:3] for each in self._finished}
            known |= {(key, worker, slot_of(*entry)) for entry, (key, worker) in self._started.items()}
            ended = [Finished(*each, 0.0, Verdict.NOT_RUN) for each in started if each not in known]
            if ended:
                finish = partial(self._limiter.finish, ended, token=self._limiter.new_token())
                self.queued(await retry_until_available(self._world, finish, what=what))

    async def _forget(self) -> None:
        """Forget unused keys: continue while many are found, but not for long."""
        what = f"forgetting keys of {self._stage.name}"
        for _ in range(_MOST_STEPS):
            if not await retry_until_available(
                self._world, partial(self._limiter.expire_idle_keys, token=self._limiter.new_token()), what=what
            ):
                break

    async def _keys_of(self, deliveries: Sequence[Delivery]) -> list[str | None]:
        try:
            return [self._keys.pacing_key(delivery) for delivery in deliveries]
        except BodyElsewhere:
            return [await self._key_of_claimed(delivery) for delivery in deliveries]

    async def _key_of_claimed(self, delivery: Delivery) -> str | None:
        """The pacing key, also where the body is claimed. It is not kept for the handler: many may be waiting."""
        try:
            return self._keys.pacing_key(await redeem(self._claims, delivery))
        except DecodeError:
            return None


def _verdict(outcome: Outcome) -> Verdict:
    match outcome:
        case Succeeded():
            return Verdict.SUCCEEDED
        case Failed(RetryLater(hold=str())):
            return Verdict.HELD
        case Failed(Reject()):
            return Verdict.REJECTED
        case Failed() | TimedOut():
            return Verdict.FAILED
        case Interrupted() | Postponed():
            return Verdict.NOT_RUN
        case _:  # not the fault of the key
            return Verdict.REJECTED
