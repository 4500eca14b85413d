"""Runs the handler of one stage on messages entered by hand: as in a worker, but without Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from flowq.broker.message_ids import MessageIds
from flowq.delivery.edge import inlet_of
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import Outcome, Output
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import OutputRouter
from flowq.graph.kinds import Placement
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.threads import HandlerThreads
from flowq.runtime.resources import Resources
from flowq.runtime.stage.batching import BatchCall, Outcomes
from flowq.world import REAL


class Trial:
    """One stage with its resources open, for the length of an `async with`. Raises ResourceFailed.

    Its handler runs one call at a time, on a thread instead of a process pool. It is not paced, and nothing is kept:
    its outputs are returned.
    """

    def __init__(self, plan: Plan, stage: StagePlan) -> None:
        # People read the outputs, so that they are never compressed.
        self._plan = replace(plan, stages=tuple(replace(each, compress_above=None) for each in plan.stages))
        self._stage = stage
        self._ids = MessageIds(REAL)
        self._resources = Resources()
        self._threads: HandlerThreads | None = None
        self._committed: list[Output] = []

    async def __aenter__(self) -> Self:
        stage = self._stage
        if stage.handler.placement is not Placement.LOOP:
            self._threads = HandlerThreads(1)
            stage = replace(stage, handler=replace(stage.handler, placement=Placement.THREAD))
        try:
            await self._resources.open_all(stage.handler.resources.values())
        except BaseException:
            await self._resources.close()
            raise
        self._handling = Handling(
            stage,
            self._plan,
            OutputRouter(stage, self._plan, self._ids.next),
            resources=self._resources.values(stage.handler.resources),
            threads=self._threads,
            commit=self._commit,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._resources.close()
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def call_size(self) -> int:
        """How many messages the handler accepts at once."""
        return self._stage.batch.size if self._stage.batch else 1

    async def run(self, bodies: Sequence[bytes]) -> tuple[Outcomes, Sequence[Output]]:
        """Call the handler with messages, at most `call_size`.

        Returns the outcomes, and the outputs of a handler that settled by itself.
        """
        deliveries = [self.delivery(body) for body in bodies]
        self._committed = []
        if self._stage.batch is not None:
            call = BatchCall(self._handling, deliveries)
            await call.run()
            return call.outcomes, self._committed
        outcomes: Outcomes = [((delivery,), await self._handling.handle(delivery)) for delivery in deliveries]
        return outcomes, self._committed

    async def call(self, deliveries: Sequence[Delivery]) -> tuple[Outcome, Sequence[Output]]:
        """Call the handler once: a batch that fails is not split. Raises DecodeError.

        Returns the outcome, and the outputs that it settled by itself.
        """
        self._committed = []
        if self._stage.batch is not None:
            messages = [self._handling.decode(delivery) for delivery in deliveries]
            return await self._handling.handle_message(messages, deliveries[0]), self._committed
        (delivery,) = deliveries
        return await self._handling.handle(delivery), self._committed

    def delivery(self, body: bytes, header: bytes | None = None) -> Delivery:
        """A message as it would be read, with a new id unless it has a header."""
        header = header or Header.entering(self._ids.next().decode()).encode()
        entry_id = b"%d-0" % (time.time_ns() // 1_000_000)
        return Delivery(Arrival(inlet_of(self._stage.name), "trial", 0), entry_id, header, body)

    async def _commit(self, delivery: Delivery, outputs: Sequence[Output]) -> None:
        await asyncio.sleep(0)  # as in a worker, the handler is not alone meanwhile
        self._committed.extend(outputs)
