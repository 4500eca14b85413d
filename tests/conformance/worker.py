"""A worker as the broker sees it, without any loop: a name, a connection to read and one to settle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel

import flowq
from flowq.broker.client.connection import Dialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.message_ids import MessageIds
from flowq.broker.publishing import Publishing
from flowq.broker.reader import Reader
from flowq.broker.records import Published, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs, StageBalance, balance_of
from flowq.broker.settling import Receipt, Settled, Settling, together
from flowq.broker.workers import Workers
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import DeadLetter, Delay, Failed, Output, Release, Succeeded
from flowq.world import REAL

LEASE_MS = 60_000
READ_BLOCK_MS = 20


class Item(BaseModel):
    n: int


@flowq.stage
def parse(item: Item) -> Item:
    return item


@flowq.stage
def store(item: Item) -> None: ...


PLAN = flowq.Pipeline("lab", parse >> store).plan
EDGES = [edge.name for edge in PLAN.edges]
STAGES = [stage.name for stage in PLAN.consumers]
IN, OUT = ">parse", "parse>store"

_ids = MessageIds(REAL)
_FAILED = Failed(ValueError("bad price"))


def output(edge: str, body: bytes, *, dedup: str = "", delay_ms: int = 0) -> Output:
    """A message without parents, ready to be published or emitted."""
    header = Header.entering(_ids.next().decode()).encode()
    return Output(edge, header, body, dedup_hash(dedup) if dedup else b"", delay_ms)


Settle = Callable[[Delivery], Settled]
"""Turns a delivery into a settlement of it."""


def done(delivery: Delivery, *outputs: Output) -> Settled:
    return (delivery,), Succeeded(outputs)


def filtered(delivery: Delivery) -> Settled:
    return (delivery,), Succeeded((), filtered=True)


def retried(delivery: Delivery, delay_ms: int = 60_000, failed: Failed = _FAILED) -> Settled:
    return (delivery,), Delay(delivery.retried(counted=True), delay_ms, counted=True, failed=failed)


def buried(delivery: Delivery, error: BaseException | None = None) -> Settled:
    return (delivery,), DeadLetter("rejected", error, delivery.header)


def released(delivery: Delivery) -> Settled:
    return (delivery,), Release()


@dataclass
class Worker:
    """One process: its own broker, so that its epoch is its own."""

    name: str
    broker: Broker
    reader: Reader
    settling: Settling

    @classmethod
    async def sign_on(
        cls,
        dialer: Dialer,
        keys: Keys,
        name: str,
        *,
        edges: Sequence[str] = (IN,),
        deduplicating: Sequence[str] = (),
        seen: Mapping[str, DedupMemory] | None = None,
    ) -> Worker:
        broker = Broker(dialer, keys)
        await Edges(broker).ensure_groups(EDGES)
        await Workers(broker).register(name, {}, lease_ms=LEASE_MS, heartbeat="1")
        settling = Settling(broker, seen or dict.fromkeys(deduplicating, DedupMemory()))
        await settling.connect()
        return cls(name, broker, Reader(broker, edges), settling)

    async def close(self) -> None:
        await self.reader.close()
        await self.settling.close()
        await self.broker.close()

    async def publish(self, *bodies: bytes, edge: str = IN) -> Published:
        outputs = [output(edge, body) for body in bodies]
        return await Publishing(self.broker).publish(edge, outputs, token=self.broker.new_token())

    async def read(self, count: int = 100) -> list[Delivery]:
        return [Delivery(*row) for row in await self.reader.read(self.name, count=count, block_ms=READ_BLOCK_MS)]

    async def read_one(self) -> Delivery:
        (delivery,) = await self.read()
        return delivery

    async def given_one(self, body: bytes = b'{"n":1}') -> Delivery:
        """Publish one message and read it."""
        await self.publish(body)
        return await self.read_one()

    async def settle(self, *settled: Settled, stage: str = "parse", by: Settling | None = None) -> Receipt:
        by_arrival: defaultdict[Arrival, list[Settled]] = defaultdict(list)
        for item in settled:
            by_arrival[item[0][0][0]].append(item)
        settle = partial((by or self.settling).settle, stage, worker=self.name)
        return together([await settle(arrival, items) for arrival, items in by_arrival.items()])

    async def snapshot(self) -> Snapshot:
        return await Runs(self.broker).snapshot(EDGES, STAGES)

    async def balance(self) -> StageBalance:
        """The balance of the stage `parse`, after a look at whether that of every stage adds up."""
        balances = balance_of(PLAN, await self.snapshot())
        assert all(balance.adds_up for balance in balances.values()), balances
        return balances["parse"]
