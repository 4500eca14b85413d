"""A pipeline whose messages are placed in every way, filled as publishers fill it, and looked at shard by shard."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import orjson
from pydantic import BaseModel

from flowq import Dedup, Pipeline, Rate, stage
from flowq.broker.client.connection import Dialer
from flowq.broker.edges import Edges
from flowq.broker.keys import Keys
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.migration.resharding import Resharding
from flowq.broker.publishing import Publishing
from flowq.broker.records import delayed_fields, pairs
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.layout import read_layout
from flowq.delivery.edge import parse_address
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import cells
from flowq.delivery.settlement import Output
from flowq.errors import BrokerUnavailable
from flowq.graph.compilation.placing import Placing
from flowq.graph.compilation.plan import Plan
from flowq.graph.compilation.routing import deduplicating_edges
from tests.conformance.shards.mortal import MortalDialer


class Page(BaseModel):
    url: str
    host: str = "a.example"


@stage(dedup="url")
async def parse(page: Page) -> None: ...


@stage(dedup=Dedup("url", ttl="1h"), place="host")
async def follow(page: Page) -> None: ...


@stage(dedup="url", rate=Rate(20, by="host"))
async def fetch(page: Page) -> None: ...


@stage(dedup=Dedup("url", keep="last"))
async def show(page: Page) -> None: ...


@stage(dedup=Dedup("url", keep="last"), rate=Rate(20, by="host"))
async def watch(page: Page) -> None: ...


@stage(rate=Rate(5))
async def count(page: Page) -> None: ...


@stage
async def keep(page: Page) -> None: ...


STAGES = ("parse", "follow", "fetch", "show", "watch", "count", "keep")


def plan_of(n_shards: int) -> Plan:
    return Pipeline("lab", parse, follow, fetch, show, watch, count, keep, shards=n_shards).plan


def page(n: int) -> Page:
    return Page(url=f"https://site/{n}", host=f"{n % 7}.example")


def home_of(stage_name: str, page: Page, n_shards: int) -> int | None:
    """Where a message lives by the rules of the design; None where it stays."""
    if stage_name in ("parse", "show"):
        cell = int.from_bytes(dedup_hash(page.url)[:2])
    elif stage_name == "follow":
        cell = int.from_bytes(dedup_hash(page.host)[:2])
    elif stage_name in ("fetch", "watch", "count"):
        cell = crc32(b"count" if stage_name == "count" else page.host.encode())
    else:
        return None
    return cells(n_shards)[cell % 4096]


class Lab:
    """What is in all shards of the pipeline."""

    def __init__(self, dialer: Dialer, keys: Keys) -> None:
        self._dialer = dialer
        self._keys = keys
        self._opened: list[Broker] = []
        self.home = self.opened(1)

    async def close(self) -> None:
        for broker in self._opened:
            await close_shards(broker)

    def opened(self, n_shards: int) -> Broker:
        """Brokers as another process would have them."""
        self._opened.append(with_shards(Broker(self._dialer, self._keys), n_shards))
        return self._opened[-1]

    async def fill(self, n: int, *, delayed: Sequence[int] = ()) -> None:
        """Publish n messages to every stage of the pipeline as it is with one shard; some of them are delayed."""
        plan = plan_of(1)
        await Edges(self.home).ensure_groups([edge.name for edge in plan.edges])
        await RecordedPlan(self.home).record(plan)
        memories = deduplicating_edges(plan)
        for name in STAGES:
            for number in range(n):
                outputs = [output(name, number)]
                delay_ms = 3_600_000 if number in delayed else 0
                await Publishing(self.home).publish(
                    f">{name}", outputs, dedup=memories.get(f">{name}"), delay_ms=delay_ms
                )

    async def empty(self, n_shards: int) -> None:
        """Remove all that waits."""
        for broker in self.opened(n_shards).shards:
            await broker.answer(b"DEL", *(broker.keys.edge(f">{name}") for name in STAGES))

    async def move(self, n_shards: int) -> None:
        """Move to so many shards."""
        await Resharding(self.opened(await read_layout(self.home) or 1), plan_of(n_shards)).carry_out()

    async def moved_before_death(self, n_shards: int, n_requests: int) -> bool:
        """Move to so many shards, in a process that dies at its n-th request; whether it was done by then."""
        dialer = MortalDialer(self._dialer, n_requests)
        broker = with_shards(Broker(dialer, self._keys), await read_layout(self.home) or 1)
        self._opened.append(broker)
        dialer.victim = moving = asyncio.create_task(Resharding(broker, plan_of(n_shards)).carry_out())
        await asyncio.wait([moving])
        if moving.cancelled() or isinstance(moving.exception(), BrokerUnavailable):
            return False
        await moving
        return True

    async def messages(self, n_shards: int) -> Counter[tuple[int, str, str, bool]]:
        """Shard, stage, url, and whether it is delayed, of all that is stored."""
        found = Counter[tuple[int, str, str, bool]]()
        for broker in self.opened(n_shards).shards:
            for name in STAGES:
                keys = broker.keys
                entries = await broker.answer(b"XRANGE", keys.edge(f">{name}"), b"-", b"+")
                found.update((broker.shard, name, _url(fields), False) for _, fields in entries)
                values = await broker.answer(b"HVALS", keys.delayed_bodies(f">{name}"))
                found.update((broker.shard, name, _url(delayed_fields(value)), True) for value in values)
        return found

    async def remembers(self, stage_name: str, number: int, n_shards: int) -> bool:
        """Whether a message that is published where it lives is dropped as a duplicate there."""
        plan, edge = plan_of(n_shards), f">{stage_name}"
        placed = Placing(plan).placed(output(stage_name, number), 0)
        shard, _ = parse_address(placed.edge)
        broker = self.opened(n_shards).shards[shard or 0]
        published = await Publishing(broker).publish(
            edge, [placed._replace(edge=edge)], dedup=deduplicating_edges(plan)[edge]
        )
        return published.duplicates == 1

    async def counters(self, n_shards: int, kind: str) -> list[dict[str, int]]:
        """The counters of one kind by edge, in each shard."""
        found: list[dict[str, int]] = []
        for broker in self.opened(n_shards).shards:
            counters = pairs(await broker.answer(b"HGETALL", broker.keys.stats))
            found.append({name.decode()[3:]: int(n) for name, n in counters if name.startswith(kind.encode())})
        return found


def output(stage_name: str, number: int) -> Output:
    """A message as a publisher sends it."""
    sent = page(number)
    header = b"%s-%d - - 0" % (stage_name.encode(), number)
    deduplicates = stage_name not in ("count", "keep")
    value = dedup_hash(sent.url) if deduplicates else b""
    return Output(f">{stage_name}", header, orjson.dumps(sent.model_dump()), value)


def _url(fields: Sequence[bytes]) -> str:
    url: str = orjson.loads(dict(pairs(fields))[b"b"])["url"]
    return url
