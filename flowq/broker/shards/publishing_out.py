"""Publishes in one shard what may be for other shards as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowq.broker import scripts
from flowq.broker.client.retrying import run_script
from flowq.broker.publishing import CursorMove, Parcel, Publishing
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.layout import has_changed
from flowq.broker.shards.outbox import Group, OnSent, Packet, entries, new_nonce, outbox_arguments, packets
from flowq.delivery.edge import parse_address
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output

_WITH_ENTRIES = 5
"""How many parts an answer has that tells what was put into outboxes."""


class PublishingOut(Publishing):
    """Publishes to edges of this shard and, through its outboxes, to those of others: all of a call in one step.

    The edge of a parcel may be an address. What is for other shards counts as appended: whether it is a duplicate is
    found out there, and its `maxsize` is not looked at here. What could not become a message stays in this shard.
    `on_sent` is told what was put into outboxes. Each call raises WrongLayout, and publishes nothing, when the shard
    has another layout than this process.
    """

    def __init__(self, broker: Broker, *, on_sent: OnSent = lambda _: None) -> None:
        super().__init__(broker)
        self._on_sent = on_sent

    async def publish(
        self,
        edge: str,
        messages: Sequence[Output],
        *,
        dedup: DedupMemory | None = None,
        token: str = "",
        call_id: str = "",
        maxsize: int = 0,
        delay_ms: int = 0,
        source: str = "",
    ) -> Published:
        parcel = Parcel(edge, messages, (), dedup, maxsize)
        return await self.publish_together([parcel], token=token, call_id=call_id, delay_ms=delay_ms, source=source)

    async def publish_together(
        self,
        parcels: Sequence[Parcel],
        *,
        token: str = "",
        call_id: str = "",
        delay_ms: int = 0,
        source: str = "",
        move: CursorMove | None = None,
        finished: str = "",
        runner: str = "",
    ) -> Published:
        own, groups, shards = list[Parcel](), list[Group](), list[int]()
        for parcel in parcels:
            shard, edge = parse_address(parcel.edge)
            if shard is None:
                own.append(parcel)
                continue
            groups.append(_group(edge, parcel, delay_ms))
            shards.append(shard)
            if parcel.refused:
                own.append(Parcel(edge, (), parcel.refused))
        call = _Call(self._broker, packets(groups, shards), self._on_sent)
        published = await call.publish_together(
            own, token=token, call_id=call_id, delay_ms=delay_ms,
            source=source, move=move, finished=finished, runner=runner,
        )  # fmt: skip
        if published.full_at is not None or published.is_elsewhere:
            return published
        return replace(
            published, appended=published.appended + sum(len(group.outputs or group.delayed) for group in groups)
        )


def _group(edge: str, parcel: Parcel, delay_ms: int) -> Group:
    if not delay_ms:
        return Group(edge, parcel.dedup, parcel.messages)
    return Group(edge, parcel.dedup, (), [message._replace(delay_ms=delay_ms) for message in parcel.messages])


class _Call(Publishing):
    """One call, with what it puts into outboxes."""

    def __init__(self, broker: Broker, crossing: Sequence[Packet], on_sent: OnSent) -> None:
        super().__init__(broker)
        self._crossing = crossing
        self._on_sent = on_sent

    async def _run(self, names: list[Any], arguments: list[Any]) -> Any:
        broker, link, replicated = self._broker, self._broker.publishing, self._broker.durability == "replicated"
        # Its connection may be another one each time, without telling: so each call begins an epoch.
        more_names, more_arguments = outbox_arguments(
            broker.keys, self._crossing,
            layout=broker.layout, nonce=new_nonce(broker.world), floor=0,
        )  # fmt: skip
        reply = await run_script(
            link, scripts.PUBLISH_OUT, names + more_names, arguments + more_arguments, replicated=replicated
        )
        if reply[0] == -2:
            raise await has_changed(broker)
        if len(reply) == _WITH_ENTRIES:
            self._on_sent(entries(self._crossing, reply[-1]))
        return reply
