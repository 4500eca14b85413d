"""Three shards to look at: a worker that serves all of them as one process, and a view that may have lost one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.workers import Workers
from tests.conformance.worker import LEASE_MS, Worker

N_SHARDS = 3
NOBODY_LISTENS = "redis://127.0.0.1:1/0"
FACTS = {"host": "box", "where": "box/1", "pid": 77, "born": "1", "stages": ["parse"], "slots": {"parse": 4}}


@dataclass
class SeenShards:
    """`lanes` serve one shard each; `broker` looks at all of them."""

    lanes: Sequence[Worker]
    broker: Broker

    @classmethod
    async def of(cls, dialer: Dialer, keys: Keys) -> SeenShards:
        lanes = [await Worker.sign_on(dialer, keys.in_shard(shard), f"lane{shard}") for shard in range(N_SHARDS)]
        for lane in lanes:
            await Workers(lane.broker).register(lane.name, FACTS, lease_ms=LEASE_MS, heartbeat="1")
        return cls(lanes, with_shards(Broker(dialer, keys), N_SHARDS))

    async def silence(self, shard: int) -> None:
        """From now on the view reaches nothing where this shard is."""
        lost = Broker(UrlDialer(NOBODY_LISTENS), self.broker.keys.in_shard(shard))
        brokers = [lost if each.shard == shard else each for each in self.broker.shards]
        await self.broker.shards[shard].close()
        for each in brokers:
            each.shards = brokers
        self.broker = brokers[0]

    async def send(self, source: int, target: int, *, sent: int, applied: int) -> None:
        """Note that so many messages have been sent from one shard to another, and applied there."""
        here, there = self.broker.shards[source], self.broker.shards[target]
        await here.answer(b"HSET", here.keys.heads, target, f"7-1 {sent}", "epoch", 7, "layout", N_SHARDS)
        await there.answer(b"HSET", there.keys.inbox, source, f"7-1 {applied}")

    async def close(self) -> None:
        for lane in self.lanes:
            await lane.close()
        await close_shards(self.broker)
