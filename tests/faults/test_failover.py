"""Failovers on real servers: what is lost, what is doubled, and whether a run continues by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest
from pydantic import BaseModel

import flowq
from flowq.delivery.policy import Durability
from flowq.errors import BrokerUnavailable
from tests.eventually import eventually
from tests.faults.deployments import Cluster, Network, Node, cluster, sentinel, wait_for

N = 800
HANDLER_SECONDS = 0.02


class Item(BaseModel):
    n: int


@flowq.stage(concurrency=10)
async def parse(item: Item) -> Item:
    await asyncio.sleep(HANDLER_SECONDS)
    return item


@flowq.stage
async def store(item: Item) -> None: ...


@pytest.fixture
def pipeline(unique_namespace: str) -> flowq.Pipeline:
    """A name of its own is a slot of its own. Only `parse` is run: what it gives stays where it can be counted."""
    return flowq.Pipeline(unique_namespace, parse >> store)


@pytest.fixture(scope="module")
def six() -> Iterator[Cluster]:
    with cluster() as six:
        yield six


@asynccontextmanager
async def running(pipeline: flowq.Pipeline, url: str) -> AsyncIterator[None]:
    """A worker that is started once and never helped."""
    run = asyncio.create_task(flowq.run(pipeline, redis=url, stages=["parse"], drain=False, lease=2.0, grace=0.0))
    try:
        yield
        assert not run.done(), "a run ends on nothing but a mistake of its configuration"
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def push(pipeline: flowq.Pipeline, url: str, numbers: range) -> None:
    async with flowq.Publisher(pipeline, redis=url, durability="replicated") as publisher:
        await publisher.push_many("parse", [Item(n=n) for n in numbers])


def on_edge(pipeline: flowq.Pipeline, edge: str, node: Node) -> list[int]:
    """The messages on an edge, read directly."""
    entries = node.client.xrange(f"flowq:{{{pipeline.name}}}:edge:{edge}")
    return [orjson.loads(fields[b"b"])["n"] for _, fields in entries]


def n_outputs(pipeline: flowq.Pipeline, node: Node) -> int:
    n: int = node.client.xlen(f"flowq:{{{pipeline.name}}}:edge:parse>store")
    return n


async def all_handled(pipeline: flowq.Pipeline, node: Node, n: int) -> None:
    """Wait until each of the first `n` numbers has given its output, and check that none has given two."""
    with contextlib.suppress(AssertionError):  # the numbers themselves tell more
        await eventually(lambda: n_outputs(pipeline, node) >= n)
    assert sorted(on_edge(pipeline, "parse>store", node)) == list(range(n))
    await eventually(lambda: not on_edge(pipeline, ">parse", node))


# Sentinel


async def test_a_run_continues_after_a_sentinel_failover_and_emits_each_output_once(unique_namespace: str) -> None:
    has_failed_over = asyncio.Event()

    @flowq.stage(name="parse", concurrency=10)
    async def parse(item: Item) -> Item:
        await asyncio.sleep(HANDLER_SECONDS)
        if item.n >= N - 10:  # so that the run is not over before the failover, which takes as long as it takes
            await has_failed_over.wait()
        return item

    pipeline = flowq.Pipeline(unique_namespace, parse >> store)
    with sentinel() as watched:
        await push(pipeline, watched.url, range(N))
        async with running(pipeline, watched.url):
            await eventually(lambda: n_outputs(pipeline, watched.nodes[0]) > N // 10)
            await asyncio.to_thread(watched.fail_over)
            assert n_outputs(pipeline, watched.nodes[1]) < N
            has_failed_over.set()
            await all_handled(pipeline, watched.nodes[1], N)

        assert watched.primary is watched.nodes[1]


@dataclass
class Pusher:
    """Pushes one number after the other, and knows which were confirmed."""

    pipeline: flowq.Pipeline
    url: str
    durability: Durability
    first: int
    confirmed: list[int] = field(default_factory=list[int])

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with flowq.Publisher(self.pipeline, redis=self.url, durability=self.durability) as publisher:
            task = asyncio.create_task(self._push(publisher))
            yield
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _push(self, publisher: flowq.Publisher) -> None:
        n = self.first
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await publisher.push(parse, Item(n=n))
                self.confirmed.append(n)
            n += 2
            await asyncio.sleep(0.001)

    async def confirms_more(self) -> None:
        wanted = len(self.confirmed) + 20
        await eventually(lambda: len(self.confirmed) >= wanted)


async def test_what_a_replica_has_confirmed_survives_a_primary_that_was_cut_off(pipeline: flowq.Pipeline) -> None:
    with Network() as network, sentinel(hosts=network.hosts, within=network.within) as watched:
        old, new = watched.nodes
        careless, careful = (
            Pusher(pipeline, watched.url, durability, first) for first, durability in enumerate(("local", "replicated"))
        )
        async with careless.at_work(), careful.at_work():
            await careful.confirms_more()
            network.part()
            await asyncio.to_thread(wait_for, lambda: watched.primary is new, "another primary")
            await careless.confirms_more()
            network.heal()
            await asyncio.to_thread(wait_for, lambda: old.replication["role"] == "slave", "the demotion of the old")
            await careful.confirms_more()
            await careless.confirms_more()

        stored = Counter(on_edge(pipeline, ">parse", new))
        assert [n for n in careful.confirmed if n not in stored] == []
        assert max(stored.values()) == 1
        assert [n for n in careless.confirmed if n not in stored], "the same failover forgets what is not replicated"


async def test_a_primary_that_needs_its_replica_is_left_soon_after_it_was_cut_off(pipeline: flowq.Pipeline) -> None:
    with Network() as network, sentinel(hosts=network.hosts, within=network.within) as watched:
        old, new = watched.nodes
        old.client.config_set("min-replicas-to-write", 1)
        old.client.config_set("min-replicas-max-lag", 2)
        pusher = Pusher(pipeline, watched.url, "local", 0)
        async with pusher.at_work():
            await pusher.confirms_more()
            network.part()
            parted_ms = server_ms(old)
            await asyncio.to_thread(wait_for, lambda: watched.primary is new, "another primary")
            there = len(on_edge(pipeline, ">parse", new))
            await eventually(lambda: len(on_edge(pipeline, ">parse", new)) > there)

        assert set(pusher.confirmed) - set(on_edge(pipeline, ">parse", new)), "what the old one took until then is lost"
        seconds = (last_written_ms(pipeline, ">parse", old) - parted_ms) / 1000
        assert seconds < 2 + 2, "the lag that is allowed, and the beat of the looks at it"


def server_ms(node: Node) -> int:
    seconds, microseconds = node.call("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def last_written_ms(pipeline: flowq.Pipeline, edge: str, node: Node) -> int:
    """When a server last took a message for an edge, by its own clock."""
    ((last_id, _),) = node.client.xrevrange(f"flowq:{{{pipeline.name}}}:edge:{edge}", count=1)
    return int(last_id.split(b"-")[0])


# Cluster


async def test_a_run_continues_when_the_primary_of_its_slot_is_killed(pipeline: flowq.Pipeline, six: Cluster) -> None:
    slot: int = six.nodes[0].call("CLUSTER", "KEYSLOT", pipeline.name)
    killed = six.owner(slot)
    try:
        await push(pipeline, six.url, range(N))
        async with running(pipeline, six.url):
            await eventually(lambda: n_outputs(pipeline, killed) > N // 10)
            killed.kill()
            await asyncio.to_thread(wait_for, lambda: six.owner(slot) is not killed, "another primary")
            await all_handled(pipeline, six.owner(slot), N)
    finally:
        killed.start()  # here: a server ends with the thread that has started it
        await asyncio.to_thread(six.wait_until_whole)


async def test_a_slot_that_moves_takes_its_blocked_reader_along(pipeline: flowq.Pipeline, six: Cluster) -> None:
    slot: int = six.nodes[0].call("CLUSTER", "KEYSLOT", pipeline.name)
    source = six.owner(slot)
    async with running(pipeline, six.url):
        await eventually(lambda: is_read(source))
        await asyncio.to_thread(six.move, slot, pause=lambda: None)
        await push(pipeline, six.url, range(50))

        await all_handled(pipeline, six.owner(slot), 50)


async def test_nothing_is_lost_or_doubled_while_a_slot_is_on_the_move(pipeline: flowq.Pipeline, six: Cluster) -> None:
    slot: int = six.nodes[0].call("CLUSTER", "KEYSLOT", pipeline.name)
    source = six.owner(slot)
    await push(pipeline, six.url, range(N))
    async with running(pipeline, six.url):
        await eventually(lambda: n_outputs(pipeline, source) > N // 10)
        source.call("CONFIG", "RESETSTAT")
        await asyncio.to_thread(six.move, slot, pause=lambda: wait_for(lambda: is_refusing(source), "a refused call"))

        await all_handled(pipeline, six.owner(slot), N)


def is_read(node: Node) -> bool:
    """Whether some reader is waiting for messages there."""
    return any(client["cmd"] == "xreadgroup" and "b" in client["flags"] for client in node.client.client_list())


def is_refusing(node: Node) -> bool:
    """Whether a client has been told that the keys are in two places."""
    return bool({"errorstat_ASK", "errorstat_TRYAGAIN"} & node.client.info("errorstats").keys())
