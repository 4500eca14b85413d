"""A consumer that shares the slots of its stage with those of other shards in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from flowq.broker.inspection.throughput import bucket_of
from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import Interrupted, Outcome
from flowq.runtime.handlers.handled import AT_WORK
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.own_context import in_context, is_unchanged
from flowq.runtime.handlers.process_pool import ProcessHandling
from flowq.runtime.stage.batching import BatchCall
from flowq.runtime.stage.consumer import Consumer, State
from flowq.runtime.stage.gate import Gate

Handle = Callable[[Row], Coroutine[Any, Any, Outcome]]


class GatedConsumer(Consumer):
    """One stage in one shard of one process. What it runs and reads ahead is shared with all others at its `gate`."""

    def __init__(self, *args: Any, gate: Gate, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate = gate
        self.in_flight.changed = gate.changed
        gate.join(self, lambda: self._n_for_slots)

    @property
    def _slots_to_fill(self) -> int:
        return self._gate.slots_for(self)

    @property
    def _most_local(self) -> int:
        return self._gate.share(super()._most_local)

    async def close(self) -> None:
        """As in `Consumer`."""
        self._gate.leave(self)
        await super().close()

    async def _slot(self, number: int, handling: Handling | ProcessHandling) -> None:
        """As in `Consumer`. A delivery is taken only once the gate is open: until then it can be handed back."""
        AT_WORK.set(partial(self._at_work.__getitem__, number))
        at_first, handle = copy_context(), handling.handle
        while True:
            while not self.ready.ready or self.state >= State.INTERRUPTING:
                await self.ready.wait()
            await self._until_due(number)
            async with self._gate:
                await self._handle_next(number, handle)
            if not is_unchanged(at_first):
                handle = partial(_in_own_copy, at_first, handling.handle)

    async def _handle_next(self, number: int, handle: Handle) -> None:
        ready, waiting = self.ready.ready, self.waiting
        if not ready or self.state >= State.INTERRUPTING:
            return
        if waiting is not None and waiting.pacer.has_missed(Delivery(*ready[0])):
            return  # its turn has passed while it waited here: it asks for another one
        row = ready.popleft()
        self._at_work[number] = unit = (row,)
        if waiting is None or await self._may_start(Delivery(*row)):
            began_at = self._world.monotonic()
            try:
                outcome = await handle(row)
            except asyncio.CancelledError:
                if self.state < State.INTERRUPTING:
                    raise
                outcome = Interrupted()
            took_seconds = self._world.monotonic() - began_at
            self.durations[bucket_of(took_seconds)] += 1
            await self._conclude(unit, outcome, took_seconds)
        self._at_work[number] = ()

    async def _run_batch(self, call: BatchCall) -> float:
        """As in `Consumer`. A batch has been gathered before the gate: otherwise its linger would hold up others."""
        try:
            await self._gate.acquire()
        except asyncio.CancelledError:
            if self.state < State.INTERRUPTING:
                raise
            call.interrupt()
            return 0.0
        try:
            return await super()._run_batch(call)
        finally:
            self._gate.release()


def _in_own_copy(context: Context, handle: Handle, row: Row) -> Coroutine[Any, Any, Outcome]:
    return in_context(context.copy(), handle, row)
