"""The inlet of a stage for programs: waits for room, and sends each call until Redis has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowq.broker.claims import ClaimCheck
from flowq.broker.edges import Edges
from flowq.broker.flow_control.backpressure import Backpressure
from flowq.broker.publishing import Publishing
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from flowq.errors import BrokerUnavailable, PayloadTooLarge, QueueFull, RequestCutOff
from flowq.graph.compilation.plan import EdgePlan

_TRIES = 5
_FULL_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class PushCall:
    """Messages that are appended together or not at all: sent again with the same token, only once.

    `waits`: while the edge is full. Otherwise the call fails. `known_by`: what an earlier call for the same messages
    has in common with this one, "" if there cannot be one. `id`: of this call, where another may have its token.
    """

    outputs: Sequence[Output]
    token: str
    delay_seconds: float
    waits: bool
    known_by: str = ""
    id: str = ""

    @property
    def delay_ms(self) -> int:
        return round(self.delay_seconds * 1000)


class Entrance:
    """An inlet in one shard of a pipeline."""

    def __init__(
        self,
        edge: EdgePlan,
        memory: DedupMemory | None,
        broker: Broker,
        publishing: Publishing,
        claims: ClaimCheck | None,
    ) -> None:
        self.edge = edge
        self._memory = memory
        self._broker = broker
        self._publishing = publishing
        self._claims = claims
        self._backpressure = Backpressure(broker, [edge])

    @property
    def most_bytes(self) -> int:
        """The size of what one call may add."""
        return self._backpressure.most_bytes

    async def publish(self, call: PushCall) -> Published:
        """Append the messages of a call.

        Raises QueueFull, PayloadTooLarge, and BrokerUnavailable after five attempts without a reply.
        """
        edge, claims, n_pauses = self.edge, self._claims, 0
        if claims is not None and edge.maxsize and not call.waits:  # write no files for messages that will be refused
            self._refuse_if_full(await self._n_outstanding())
        while True:
            await self._until_memory_allows(call)
            call, published = await self._attempt(call)
            if published.full_at is None:
                n_bytes = sum([len(output.body) for output in call.outputs])
                self._backpressure.sent(n_bytes, handled=len(call.outputs))
                return published
            if not call.waits:
                if claims is not None:
                    await claims.withdraw(call.outputs)
                self._refuse_if_full(published.full_at)
            n_pauses += 1
            await self._broker.world.pause(_FULL_PAUSE_SECONDS)
            if claims is not None:
                await claims.refresh(call.outputs, n_pauses=n_pauses)

    async def until_room(self, call: PushCall) -> None:
        """Wait until the edge has room, for a call that is sent to another shard. Raises QueueFull."""
        await self._until_memory_allows(call)
        while self.edge.maxsize and (n := await self._n_outstanding()) >= self.edge.maxsize:
            if not call.waits:
                self._refuse_if_full(n)
            await self._broker.world.pause(_FULL_PAUSE_SECONDS)

    async def _n_outstanding(self) -> int:
        return (await Edges(self._broker).outstanding([self.edge.name]))[self.edge.name]

    async def _attempt(self, call: PushCall) -> tuple[PushCall, Published]:
        """Send a call until Redis replies, five times at most. Returns it with its large bodies in the claim store."""
        tries = 0
        while True:
            try:
                if self._claims is not None:  # a retry writes no body twice: references are left alone
                    call = replace(call, outputs=await self._claims.deposit(call.outputs))
                return call, await self._send(call)
            except BrokerUnavailable as error:
                tries += 1
                if tries == _TRIES:
                    # Redis may have stored it and lost the replies: then nothing may be sent again under a new token.
                    if isinstance(error, RequestCutOff) and not await self._publishing.was_published(call.token):
                        await self._publish_others(call, error)
                    raise
            await asyncio.sleep(0.1 * 2**tries)

    async def _send(self, call: PushCall) -> Published:
        return await self._publishing.publish(
            self.edge.name,
            call.outputs,
            dedup=self._memory,
            token=call.token,
            call_id=call.id,
            maxsize=self.edge.maxsize,
            delay_ms=call.delay_ms,
        )

    async def _publish_others(self, call: PushCall, error: RequestCutOff) -> None:
        """Publish all messages except the largest, which exceeds what Redis accepts. Raises PayloadTooLarge."""
        largest = max(call.outputs, key=lambda output: len(output.body))
        others = [output for output in call.outputs if output is not largest]
        if others:
            await self.publish(replace(call, outputs=others, token=f"{call.token}."))
        refused = PayloadTooLarge(
            f"a message of {len(largest.body):,} bytes is more than this Redis accepts",
            hint="raise its proto-max-bulk-len and client-query-buffer-limit, or use claim_above= where it is handled",
            detail=error.detail,
        )
        refused.stored = len(call.outputs)  # counts the refused one too: the caller continues behind this call
        raise refused from error

    async def _until_memory_allows(self, call: PushCall) -> None:
        """Wait while the edge uses more memory than its limit. Raises QueueFull if the call does not wait."""
        edge, backpressure = self.edge, self._backpressure
        while backpressure.need_a_look:
            await backpressure.look_again()
            if backpressure.are_full and not call.waits:
                raise QueueFull(
                    f'edge "{edge.name}" holds more than its maxsize_bytes of {edge.maxsize_bytes:,}',
                    hint="wait until some are handled, run more workers, or raise maxsize_bytes",
                )

    def _refuse_if_full(self, n: int) -> None:
        if n >= self.edge.maxsize:
            raise QueueFull(
                f'edge "{self.edge.name}" holds {n:,} messages, its maxsize is {self.edge.maxsize:,}',
                hint="wait until some are handled, run more workers, or raise maxsize",
            )


def total(published: Sequence[Published]) -> Published:
    """What several calls have appended and dropped."""
    return Published(sum([each.appended for each in published]), sum([each.duplicates for each in published]))
