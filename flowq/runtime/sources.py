"""Runs sources: what they give is published in bulk, and waits where an edge is full."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from flowq.broker.calls import insist
from flowq.broker.claims import claim_check
from flowq.broker.outlets import Outlets
from flowq.broker.publishing import CursorMove, Parcel, Refused
from flowq.broker.redis_streams import Broker
from flowq.broker.source_turns import take_source
from flowq.delivery.codec import Encode, decoder, encoder
from flowq.delivery.portions import MOST_PER_CALL
from flowq.delivery.settlement import Output
from flowq.errors import DecodeError, FlowqError, PayloadTooLarge, UsageError
from flowq.graph.emission import Emission, edges_fed
from flowq.graph.plan import Plan, StagePlan
from flowq.graph.source_context import Rejected, Saved, SourceContext
from flowq.runtime.gathered import Gathered, Portion
from flowq.runtime.pauses import Pauses
from flowq.runtime.refusals import Refusals
from flowq.runtime.source_arguments import cursor_name, cursor_type

log = logging.getLogger("flowq.runtime")

_LONGEST_GATHER_SECONDS = 0.05
_FULL_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 0.5


class SourceFailed(FlowqError):
    """A source raised an exception, which is the cause. What it had given before is kept."""

    code = "FQ302"


class _TakenOver(Exception):
    """Another worker runs the source, or its cursor is not where this one left it: Redis has lost something."""


class SourceRunner:
    """Runs one source from beginning to end, and notes in Redis that it has finished. Waits while another worker does.

    A source with a context goes on where its cursor was stored last. One without starts from its beginning in the next
    run if it was broken off: what it gives may come twice.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        next_id: Callable[[], bytes],
        *,
        pauses: Pauses | None = None,
        worker: str,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._broker = broker
        self._next_id = next_id
        self._pauses = pauses
        self._worker = worker
        self._emission = Emission(stage, plan, next_id)
        self._refusals = Refusals(stage, self._emission, next_id, worker=worker, run_id=broker.run_id)
        self._has_cursor = stage.handler.context_parameter is not None
        self._cursor_name = ""
        self._cursor = b""  # as it was stored last
        self._encode_cursor: Encode = encoder(Any)
        self._outlets = Outlets(broker, edges_fed(plan, stage))
        self._gathered = self._new_gathered()
        self._publishing = asyncio.Lock()
        self._claims = claim_check(broker, plan)

    async def run(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        """Publish everything the source gives, unless an earlier worker of the same run already has."""
        name = self._stage.name
        self._cursor_name = cursor_name(self._stage, arguments)
        while await self._is_its_turn(signature):
            try:
                await self._give(arguments, resources, signature)
            except _TakenOver:
                continue
            # For where the last messages went out before the end was known, or had to be confirmed by a replica first.
            await insist(lambda: self._broker.source_finished(name, signature), what=f"finishing {name}")

    async def _is_its_turn(self, signature: str) -> bool:
        """Wait for as long as another worker runs the source. False: it has finished."""
        name, told = self._stage.name, ""
        while not await insist(lambda: self._broker.is_source_finished(name, signature), what=f"starting {name}"):
            runner = await insist(lambda: take_source(self._broker, name, self._worker), what=f"starting {name}")
            if runner == self._worker:
                return True
            if runner != told:
                told = runner
                log.warning("source %s is being run by worker %s: this one takes over if that is gone", name, runner)
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _give(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        self._gathered = self._new_gathered()
        recorded: deque[Any] = deque()
        contexts = await self._contexts(recorded)
        flusher = asyncio.create_task(self._flush_now_and_then())
        try:
            given = self._stage.handler.call(**arguments, **resources, **contexts)
            values = given if hasattr(given, "__aiter__") else _from_thread(iter(given), recorded)
            async for value in values:
                self._add(value)
                if flusher.done():
                    flusher.result()
                if len(self._gathered) >= MOST_PER_CALL:
                    await self._flush()
            await self._flush(finished=signature)
        except (FlowqError, _TakenOver):
            raise
        except (Exception, SystemExit) as error:  # the user's code
            raise self._failure(error) from error
        finally:
            flusher.cancel()
            await asyncio.wait([flusher])

    def _new_gathered(self) -> Gathered:
        return Gathered(holds=self._has_cursor, most_bytes=self._outlets.most_bytes)

    def _failure(self, error: BaseException) -> SourceFailed:
        where = "where its cursor is" if self._has_cursor else "from its beginning"
        return SourceFailed(
            f'source "{self._stage.name}" failed: {error!r}',
            place=self._stage.place,
            hint=f"run it again when that is mended: it starts {where}, and what it gave is kept",
        )

    async def _contexts(self, recorded: deque[Any]) -> dict[str, SourceContext[Any]]:
        """The context of the source, if it has a parameter for one, with the cursor that is stored."""
        parameter, name = self._stage.handler.context_parameter, self._stage.name
        if parameter is None:
            return {}
        type_ = cursor_type(self._stage)
        self._encode_cursor = encoder(type_)
        self._cursor = await insist(lambda: self._broker.cursor(self._cursor_name), what=f"starting {name}")
        try:
            cursor = decoder(type_)(self._cursor) if self._cursor else None
        except DecodeError as error:
            raise UsageError(
                f'source "{name}" cannot go on where it was: its cursor is {error.message}',
                detail=error.detail,
                hint="flowq run --fresh forgets it, and begins again",
                place=self._stage.place,
            ) from None
        # A generator runs on a thread, a little ahead: what it records must keep its place among what it yields.
        keep = self._note if self._stage.handler.shape.is_async else recorded.append

        def record(item: Saved | Rejected) -> None:
            # Written down now: the source may change its cursor as it goes on.
            keep(Saved(self._encode_cursor(item.cursor)) if isinstance(item, Saved) else item)

        return {parameter: SourceContext(cursor, record=record)}

    def _add(self, value: Any) -> None:
        if isinstance(value, (Saved, Rejected)):
            self._note(value)
            return
        try:
            entries = self._emission.entering(value)
        except PayloadTooLarge as error:
            self._gathered.add(self._refusals.of_value(value, error))
        else:
            self._gathered.add(entries)

    def _note(self, recorded: Saved | Rejected) -> None:
        if isinstance(recorded, Saved):
            self._gathered.save(recorded.cursor)
        else:
            self._gathered.add(self._refusals.of_bytes(recorded.body, recorded.error))

    # Publishing

    async def _flush_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_LONGEST_GATHER_SECONDS)
            await self._flush()

    async def _flush(self, *, finished: str = "") -> None:
        async with self._publishing:
            if self._pauses is not None:
                await self._pauses.while_paused(self._stage.name)
            # A call is refused or taken as a whole: small ones keep a small edge near its size.
            sizes = [edge.maxsize for edge in self._plan.edges_out_of(self._stage.name) if edge.maxsize]
            most = max(1, min(MOST_PER_CALL, *(size // 10 for size in sizes)))
            while (portion := self._gathered.take(most, everything=bool(finished))) is not None:
                await self._outlets.until_free()
                portion = await self._deposited(portion)
                await self._publish(portion, finished="" if len(self._gathered) else finished)
                self._outlets.sent(sum([len(entry.body) for entry in portion.entries]), handled=len(portion.entries))

    async def _deposited(self, portion: Portion) -> Portion:
        """What shall be published, its large bodies brought away: once, however often that is tried."""
        if (claims := self._claims) is None:
            return portion
        what = f"publishing from {self._stage.name}"
        return replace(portion, entries=await insist(lambda: claims.deposit(portion.entries), what=what))

    async def _publish(self, portion: Portion, *, finished: str) -> None:
        parcels, token, name = self._parcels(portion), self._next_id().decode(), self._stage.name
        cursor = self._cursor if portion.cursor is None else portion.cursor
        move = CursorMove(self._cursor_name, self._cursor, cursor) if self._has_cursor else None

        async def attempt() -> bool:
            published = await self._broker.publish_together(
                parcels, token=token, source=name, move=move, finished=finished, runner=self._worker
            )
            if published.is_elsewhere:
                raise _TakenOver
            return published.full_at is None

        n_pauses = 0
        while not await insist(attempt, what=f"publishing from {name}"):
            await asyncio.sleep(_FULL_PAUSE_SECONDS)  # others empty it
            n_pauses += 1
            if self._claims is not None:
                await self._claims.refresh(portion.entries, n_pauses=n_pauses)
        self._cursor = cursor

    def _parcels(self, portion: Portion) -> list[Parcel]:
        messages: defaultdict[str, list[Output]] = defaultdict(list)
        refused: defaultdict[str, list[Refused]] = defaultdict(list)
        for entry in portion.entries:
            if isinstance(entry, Output):
                messages[entry.edge].append(entry)
            else:
                refused[entry.edge].append(entry)
        parcels: list[Parcel] = []
        for name in dict.fromkeys([*messages, *refused]):
            edge = self._plan.edge_by_name[name]
            seen_ms = self._plan.stage(edge.target).seen_ms
            deduplicated_by = edge.target if seen_ms else None
            parcels.append(Parcel(name, messages[name], refused[name], deduplicated_by, edge.maxsize, seen_ms))
        return parcels


async def _from_thread(values: Iterator[Any], recorded: deque[Any]) -> AsyncIterator[Any]:
    """The values of an iterator that may block, each soon after a thread has taken it.

    Into `recorded` goes in between what the iterator leaves there itself while it runs.
    """

    def take_some() -> bool:
        """Take values for a moment; whether there may be more."""
        until = time.monotonic() + _LONGEST_GATHER_SECONDS
        n = 0
        for value in itertools.islice(values, MOST_PER_CALL):
            recorded.append(value)
            n += 1
            if time.monotonic() > until:
                return True
        return n == MOST_PER_CALL

    loop = asyncio.get_running_loop()
    more = True
    while more:
        taking = loop.run_in_executor(None, take_some)  # no task: SystemExit in a task would end the loop
        while recorded or not taking.done():
            if not recorded:  # the next value may be hours away, but those before it must not wait for it
                await asyncio.wait([taking], timeout=_LONGEST_GATHER_SECONDS)
            while recorded:
                yield recorded.popleft()
        more = taking.result()
