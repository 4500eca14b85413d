"""A forwarder among lost replies, cut connections, and servers that fail over to what they had seconds ago."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from redis.crc import key_slot

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.retrying import again_if_lost
from flowq.broker.client.topology import ClusterDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.forwarding import Forwarder
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.delivery.edge import address
from flowq.errors import BrokerError
from tests.conformance.worker import OUT, output
from tests.eventually import eventually
from tests.faults.deployments import Node, cluster, primary_with_replica
from tests.faults.proxy import Proxy
from tests.ports import LOOPBACK
from tests.redis_server import RedisServer

BODIES = [b"%d" % n for n in range(60)]
THERE = address(1, OUT)


class Movable:
    """Connections to the server at a URL that can change, as a name does in a failover."""

    is_private = False

    def __init__(self, url: str) -> None:
        self.url = self.address = url

    async def dial(self) -> Any:
        return await UrlDialer(self.url).dial()


class Shards:
    """Shard 0 and shard 1, each behind a dialer of its own."""

    def __init__(self, namespace: str, source: Dialer, target: Dialer) -> None:
        keys = Keys(namespace, "lab")
        self.source, self.target = Broker(source, keys), Broker(target, keys.in_shard(1))
        for broker in (self.source, self.target):
            broker.shards = (self.source, self.target)

    async def send(self, *bodies: bytes, to: Forwarder | None = None) -> None:
        """Put messages into the outbox of shard 0, one entry each."""
        publishing = PublishingOut(self.source, on_sent=to.note if to else lambda _: None)
        for body in bodies:
            await publishing.publish(THERE, [output(OUT, body)._replace(edge=THERE)])

    async def arrived(self) -> list[bytes]:
        found = await self.target.answer(b"XRANGE", self.target.keys.edge(OUT), b"-", b"+")
        return [fields[3] for _, fields in found]

    async def n_kept(self) -> int:
        n: int = await self.source.answer(b"XLEN", self.source.keys.outbox_of("1"))
        return n

    async def close(self) -> None:
        await self.source.close()
        await self.target.close()


@asynccontextmanager
async def forwarding(shards: Shards) -> AsyncGenerator[Forwarder]:
    forwarder = Forwarder(shards.source)
    run = asyncio.create_task(forwarder.run())
    try:
        yield forwarder
        assert not run.done()
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        await forwarder.close()
        await shards.close()


async def test_replies_that_are_lost_change_nothing(redis_url: str, unique_namespace: str) -> None:
    async with Proxy(redis_url) as proxy:
        shards = Shards(unique_namespace, UrlDialer(redis_url), UrlDialer(proxy.url))
        proxy.drop_reply("EVALSHA", 5, containing=b":inbox")
        async with forwarding(shards) as forwarder:
            for n, body in enumerate(BODIES):
                await shards.send(body, to=forwarder)
                await eventually(lambda n=n: _have_arrived(shards, n + 1))
            await forwarder.flush_until_certain()

            assert await shards.arrived() == BODIES
            assert await shards.n_kept() == 0
            assert proxy.dropped == 5


async def test_connections_that_are_cut_change_nothing(redis_url: str, unique_namespace: str) -> None:
    async with Proxy(redis_url) as of_source, Proxy(redis_url) as of_target:
        shards = Shards(unique_namespace, UrlDialer(redis_url), UrlDialer(of_target.url))
        forwarded = Shards(unique_namespace, UrlDialer(of_source.url), UrlDialer(of_target.url))
        async with forwarding(forwarded) as forwarder:
            for body in BODIES:
                await shards.send(body, to=forwarder)
                of_source.kill_connections()
                of_target.kill_connections()
                await asyncio.sleep(0)
            await forwarder.flush_until_certain()

            direct = Shards(unique_namespace, UrlDialer(redis_url), UrlDialer(redis_url))
            assert await direct.arrived() == BODIES
            assert await direct.n_kept() == 0
            await direct.close()
        await shards.close()


def _copy(from_node: Node, to_node: Node) -> None:
    for key in from_node.call("KEYS", "*"):
        to_node.call("RESTORE", key, 0, from_node.call("DUMP", key), "REPLACE")


async def test_a_target_that_fails_over_to_what_it_had_before_gets_the_rest_again(unique_namespace: str) -> None:
    """Its replica is frozen: what is applied meanwhile is kept in the outbox."""
    plain = ("--save", "", "--appendonly", "no")
    with Node(*plain) as source, primary_with_replica() as (primary, replica), Node(*plain) as successor:
        target = Movable(primary.url)
        shards = Shards(unique_namespace, UrlDialer(source.url), target)
        async with forwarding(shards) as forwarder:
            await shards.send(*BODIES[:20], to=forwarder)
            await forwarder.flush_until_certain()
            replica.freeze()
            _copy(primary, successor)
            await shards.send(*BODIES[20:], to=forwarder)
            await eventually(lambda: _have_arrived(shards, len(BODIES)))
            assert await shards.n_kept() == 40

            target.url = successor.url
            primary.kill()
            await forwarder.flush_until_certain()

            assert await shards.arrived() == BODIES
            assert forwarder.lost == {}
            assert await shards.n_kept() == 0
        replica.thaw()


async def _have_arrived(shards: Shards, n: int) -> bool:
    return len(await shards.arrived()) >= n


async def test_a_source_whose_replica_is_frozen_passes_nothing_on_that_it_may_forget(unique_namespace: str) -> None:
    plain = ("--save", "", "--appendonly", "no")
    with primary_with_replica() as (primary, replica), Node(*plain) as successor, Node(*plain) as other:
        source = Movable(primary.url)
        shards = Shards(unique_namespace, source, UrlDialer(other.url))
        async with forwarding(shards) as forwarder:
            await shards.send(*BODIES[:20], to=forwarder)
            await forwarder.flush_until_certain()
            replica.freeze()
            _copy(primary, successor)
            await shards.send(b"forgotten", b"forgotten too", to=forwarder)
            source.url = successor.url
            primary.kill()
            await eventually(lambda: _can_send(shards, forwarder))  # the same numbers again, in another history
            await forwarder.flush_until_certain()

            assert await shards.arrived() == [*BODIES[:20], b"new"]
        replica.thaw()


async def test_without_a_replica_a_replicated_source_passes_on_what_is_on_its_disk_and_nothing_else(
    unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer("bundled", "--appendonly", "yes") as server:
        dialer = UrlDialer(server.url)
        program, worker = Shards(unique_namespace, dialer, dialer), Shards(unique_namespace, dialer, dialer)
        worker.source.durability = "replicated"
        async with forwarding(worker) as forwarder:
            await program.send(*BODIES[:20], to=forwarder)
            await eventually(lambda: _have_arrived(program, 20))

            await program.source.answer(b"CONFIG", b"SET", b"appendonly", b"no")
            await program.send(BODIES[20], to=forwarder)
            await eventually(lambda: "neither a replica nor the append-only file" in caplog.text)
            assert await program.arrived() == BODIES[:20]

            await program.source.answer(b"CONFIG", b"SET", b"appendonly", b"yes")
            await eventually(lambda: _have_arrived(program, 21))
            assert await program.arrived() == BODIES[:21]
        await program.close()


async def _can_send(shards: Shards, forwarder: Forwarder) -> bool:
    try:
        await shards.send(b"new", to=forwarder)
    except BrokerError:
        return False
    return True


async def test_a_shard_that_does_not_answer_delays_no_other(redis_url: str, unique_namespace: str) -> None:
    shards = Shards(unique_namespace, UrlDialer(redis_url), UrlDialer(redis_url))
    absent = Broker(UrlDialer(f"redis://{LOOPBACK}:1/0"), Keys(unique_namespace, "lab").in_shard(2))
    shards.source.shards = shards.target.shards = (shards.source, shards.target, absent)
    async with forwarding(shards) as forwarder:
        publishing = PublishingOut(shards.source, on_sent=forwarder.note)
        for body in BODIES:
            both = [output(OUT, body)._replace(edge=address(to, OUT)) for to in (1, 2)]
            for message in both:
                await publishing.publish(message.edge, [message])
        await eventually(lambda: _have_arrived(shards, len(BODIES)))

        assert await shards.arrived() == BODIES
        await eventually(lambda: forwarder.in_transit == len(BODIES))
    await absent.close()


async def test_that_a_primary_has_no_replica_is_believed_when_another_node_says_so() -> None:
    with cluster() as six:
        primary = six.owner(key_slot(b"lab"))
        dialer = ClusterDialer(six.url, "lab")
        address_of = {node.port: node for node in six.nodes}

        def replica_ports() -> list[int]:
            (held,) = [held for held in primary.call("CLUSTER", "SLOTS") if held[2][1] == primary.port]
            return [port for _, port, *_ in held[3:]]

        async def is_seen() -> bool:
            return not await dialer.has_no_replica()

        await eventually(replica_ports)
        await eventually(is_seen)  # by all nodes: the one that is asked may learn of it last

        (port,) = replica_ports()
        address_of[port].kill()

        await eventually(dialer.has_no_replica)


async def test_over_a_cluster_a_forwarder_has_one_connection_for_each_node_and_survives_the_death_of_one(
    unique_namespace: str,
) -> None:
    with cluster() as six:
        first = Broker(ClusterDialer(six.url, "lab"), Keys(unique_namespace, "lab"))
        brokers = with_shards(first, 6).shards
        forwarder = Forwarder(first)
        run = asyncio.create_task(forwarder.run())
        await _send_to_each(brokers, forwarder, BODIES[:20])
        await forwarder.flush_until_certain()
        assert len({id(await forwarder.links.to(shard)) for shard in range(6)}) == 3

        source, *targets = (six.owner(key_slot(broker.keys.tag.encode())) for broker in brokers)
        next(node for node in targets if node is not source).kill()
        await _send_to_each(brokers, forwarder, BODIES[20:])
        await forwarder.flush_until_certain()

        for broker in brokers[1:]:
            found = await again_if_lost(partial(broker.answer, b"XRANGE", broker.keys.edge(OUT), b"-", b"+"))
            assert [fields[3] for _, fields in found] == BODIES
        assert forwarder.lost == {}
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await forwarder.close()
        await close_shards(first)


async def _send_to_each(brokers: Sequence[Broker], forwarder: Forwarder, bodies: Sequence[bytes]) -> None:
    publishing = PublishingOut(brokers[0], on_sent=forwarder.note)
    for body in bodies:
        for broker in brokers[1:]:
            message = output(OUT, body)._replace(edge=address(broker.shard, OUT))
            await publishing.publish(message.edge, [message])
