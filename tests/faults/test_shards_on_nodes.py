"""The shards of a pipeline on real nodes: each broker finds its own, also when those of the URL are gone."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from redis.crc import key_slot

from flowq.broker.client.topology import ClusterDialer
from flowq.broker.open import open_broker
from flowq.errors import BrokerUnavailable
from flowq.settings import Settings
from flowq.wording.shard_words import server_words
from tests.certificates import Authority
from tests.faults.deployments import SLOTS, Cluster, Node, cluster, wait_for
from tests.ports import free_port


def settings(url: str) -> Settings:
    return Settings.of_program(redis=url)


def test_each_shard_is_on_the_primary_of_its_slot_and_they_lie_evenly() -> None:
    async def scenario(nodes: Cluster) -> list[int]:
        async with open_broker("lab", settings(nodes.url), 16) as broker:
            for each in broker.shards:
                assert await each.answer(b"SET", each.keys.probe, each.shard) == b"OK"  # no MOVED
            return [nodes.owner(key_slot(each.keys.tag.encode())).port for each in broker.shards]

    with cluster() as nodes:
        ports = asyncio.run(scenario(nodes))

    assert sorted(ports.count(port) for port in set(ports)) == [5, 5, 6]
    assert sorted(ports[:12].count(port) for port in set(ports)) == [4, 4, 4]


def test_a_cluster_is_found_when_every_node_that_the_url_names_is_gone() -> None:
    async def scenario(nodes: Cluster) -> None:
        first = nodes.nodes[0]
        async with open_broker("lab", settings(f"redis+cluster://{first.address}"), 6) as broker:
            first.kill()
            living = [each for each in broker.shards if nodes.owner(key_slot(each.keys.tag.encode())) is not first]
            assert len(living) >= 4
            for each in living:
                await each.ping()

    with cluster() as nodes:
        asyncio.run(scenario(nodes))


def test_an_error_names_the_node_that_does_not_answer() -> None:
    async def scenario(nodes: Cluster) -> None:
        async with open_broker("lab", settings(nodes.url), 6) as broker:
            await asyncio.gather(*(each.ping() for each in broker.shards))
            for each in broker.shards[1:]:
                owner = nodes.owner(key_slot(each.keys.tag.encode()))
                assert each.dialer.address == f"{owner.address} (shard {each.shard})"
            gone = nodes.nodes[1]
            lost = next(e for e in broker.shards if nodes.owner(key_slot(e.keys.tag.encode())) is gone and e.shard)
            nodes.nodes[4].kill()  # its replica: nobody takes over
            gone.kill()
            where = re.escape(f"{gone.address} (shard {lost.shard})")
            with pytest.raises(BrokerUnavailable, match=f"Redis at {where}"):
                await lost.answer(b"GET", lost.keys.probe)
            with pytest.raises(BrokerUnavailable, match=rf"{gone.address}, the primary of slot \d+ \(shard"):
                await lost.dialer.dial()

    with cluster() as nodes:
        asyncio.run(scenario(nodes))


def test_shards_on_several_servers_and_on_a_cluster_are_reached_over_tls(tmp_path: Path) -> None:
    authority, ports = Authority(tmp_path), [free_port(), free_port(), free_port()]
    at = [f"localhost:{port}" for port in ports]
    one, two, three = (authority.redis_options(port) for port in ports)

    async def scenario(url: str) -> list[str]:
        async with open_broker("lab", settings(f"{url}?ssl_ca_certs={authority.itself.file}"), 6) as broker:
            for each in broker.shards:
                await each.answer(b"SET", each.keys.probe, each.shard)
            return [server_words(each.dialer.address).partition(" ")[0] for each in broker.shards]

    with Node(*one, kind="debian"), Node(*two, kind="debian"):
        assert asyncio.run(scenario(f"rediss+servers://{at[0]},{at[1]}")) == at[:2] * 3
    cluster_of_one = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--tls-cluster", "yes")
    with Node(*three, *cluster_of_one, kind="debian") as node:
        node.call("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        wait_for(lambda: b"cluster_state:ok" in node.call("CLUSTER", "INFO"), "a cluster of one")
        assert asyncio.run(scenario(f"rediss+cluster://{at[2]}")) == at[2:] * 6


def test_a_slot_that_no_node_serves_is_told_from_nodes_that_do_not_run() -> None:
    async def scenario(nodes: Cluster) -> None:
        slot = key_slot(b"lab")
        for node in nodes.nodes:
            node.call("CLUSTER", "DELSLOTS", slot)
        with pytest.raises(BrokerUnavailable, match="no primary found") as raised:
            await ClusterDialer(nodes.url, "lab").dial()
        assert raised.value.detail == "no node of the Cluster serves its slot"
        assert "redis-cli --cluster check" in raised.value.hint

    with cluster() as nodes:
        asyncio.run(scenario(nodes))


def test_the_url_of_one_node_is_told_how_to_name_a_cluster() -> None:
    async def scenario(nodes: Cluster) -> None:
        other = next(node for node in nodes.nodes[:3] if node is not nodes.owner(key_slot(b"lab")))
        with pytest.raises(BrokerUnavailable, match="is no longer at") as raised:
            async with open_broker("lab", settings(f"redis://{other.address}/0")):
                pass
        assert "redis+cluster://" in raised.value.hint

    with cluster() as nodes:
        asyncio.run(scenario(nodes))
