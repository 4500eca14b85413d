"""Reads what a deduplicating stage has stored, in one shard, of the values that it has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from flowq.broker.migration.scanning import scan
from flowq.broker.migration.seen_values import SeenForm
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import StagePlan


@dataclass(frozen=True, slots=True)
class Bucket:
    """Values that are stored together: see `SeenForm`."""

    number: int
    text: bytes


class StoredSeen:
    """What one stage has seen in one shard. `names`: its keys, as scripts read them; `key` is the first of them."""

    def __init__(self, broker: Broker, stage: StagePlan) -> None:
        memory, keys = stage.dedup_memory, broker.keys
        self.is_timed = memory is not None and memory.ttl_ms is not None
        kinds = (keys.seen_until, keys.unpacked_until) if self.is_timed else (keys.seen, keys.unpacked)
        self.names = [*(kind(stage.name) for kind in kinds), keys.workers]
        self.key = self.names[0]
        self._broker = broker

    async def form(self) -> SeenForm | None:
        """How its values are packed; None if it has seen none, all have expired, or flowq has not written them."""
        about = await self._broker.answer(b"HGET", self.key, b"about")
        form = None if about is None else SeenForm.parse(about, is_timed=self.is_timed)
        has_expired = form is not None and self.is_timed and form.has_expired(await self._broker.now_ms())
        return None if has_expired else form

    async def buckets(self) -> AsyncIterator[Bucket]:
        """All of its values, each at least once."""
        async for field, text in scan(self._broker, b"HSCAN", self.key):
            if field.isdigit():
                yield Bucket(int(field), text)
