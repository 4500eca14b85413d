"""Settles deliveries of one shard whose outputs may go to other shards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from flowq.broker import scripts
from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import run_script
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Call, Receipt, Settling
from flowq.broker.shards.layout import has_changed
from flowq.broker.shards.outbox import Group, OnSent, Packet, entries, new_nonce, outbox_arguments, packets
from flowq.delivery.edge import parse_address
from flowq.delivery.message import Arrival
from flowq.delivery.policy import DedupMemory, Keep
from flowq.delivery.settlement import Settled


class SettlingOut(Settling):
    """Settles, and puts outputs for other shards into the outboxes of this one in the same step.

    An output asks for another shard by its edge: see `address`. `on_sent` is told what was put into outboxes; what it
    is not told, because a reply was lost, lies there all the same. A receipt has nothing about edges of other shards.
    Raises WrongLayout, which ends the worker, when the shard has another layout than this process.
    """

    def __init__(
        self,
        broker: Broker,
        deduplicating: Mapping[str, DedupMemory],
        keeping: Mapping[str, Keep] | None = None,
        claims: ClaimCheck | None = None,
        *,
        keeps_answers: bool = False,
        on_sent: OnSent = lambda _: None,
    ) -> None:
        super().__init__(broker, deduplicating, keeping, claims, keeps_answers=keeps_answers)
        self._on_sent = on_sent
        self._turn = asyncio.Lock()
        self._has_begun = 0  # the connection over which an epoch was begun last
        self._epoch = 0  # the highest one known

    async def _send(
        self, stage: str, arrival: Arrival, settled: Sequence[Settled], *, mode: int, token: str
    ) -> Receipt | None:
        call = self._call_of(stage, settled)
        crossing = self._take_crossing(call)
        names, arguments, targets = self._pack(call, stage, arrival, mode, token)
        # Whether an epoch has to be begun is decided for the connection that the call then uses, and no other.
        async with self._turn:
            if not crossing:
                return call.receipt(targets, await run_script(self._link, scripts.SETTLE, names, arguments))
            reply = await self._settle_out(names, arguments, crossing)
        if reply[0] == -2:
            raise await has_changed(self._broker)
        if reply[0] < 0:
            return None
        *about_targets, put = reply
        if put:
            self._on_sent(entries(crossing, put))
        return call.receipt(targets, about_targets)

    def _take_crossing(self, call: Call) -> list[Packet]:
        """Take the outputs for other shards out of a call."""
        groups, shards = list[Group](), list[int]()
        for text in list(call.outputs | call.delayed):
            shard, edge = parse_address(text)
            if shard is not None:
                outputs, delayed = call.outputs.pop(text, ()), call.delayed.pop(text, ())
                groups.append(Group(edge, self.deduplicating.get(edge), outputs, delayed))
                shards.append(shard)
        return packets(groups, shards)

    async def _settle_out(self, names: list[Any], arguments: list[Any], crossing: Sequence[Packet]) -> Any:
        broker, link = self._broker, self._link
        has_begun = link.is_open and link.n_opened == self._has_begun
        nonce = -1 if has_begun else new_nonce(broker.world)
        more_names, more_arguments = outbox_arguments(
            broker.keys, crossing, layout=broker.layout, nonce=nonce, floor=self._epoch
        )
        reply = await run_script(link, scripts.SETTLE_OUT, [*names, *more_names], [*arguments, *more_arguments])
        if reply[0] >= 0 and reply[-1]:  # a call that puts nothing has begun none
            self._has_begun, self._epoch = link.n_opened, int(reply[-1][0].partition(b"-")[0])
        return reply
