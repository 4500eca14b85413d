"""What monitoring finds on a Cluster: the pipelines of all primaries, also while one of them does not answer."""

from __future__ import annotations

import asyncio

from redis.crc import key_slot

import flowq
from flowq.broker.client.topology import ClusterDialer
from flowq.monitoring.watched import WatchedRedis
from tests.faults.deployments import Cluster, Node, cluster


@flowq.stage
async def keep(n: int) -> None: ...


def test_all_pipelines_of_a_cluster_are_found_and_one_that_does_not_answer_is_named() -> None:
    with cluster() as nodes:
        for node in nodes.nodes:
            node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
        asyncio.run(_scenario(nodes))


async def _scenario(nodes: Cluster) -> None:
    by_primary = _a_name_for_each_primary(nodes)
    names = sorted(by_primary.values())
    for name, shards in zip(names, (1, 4, 1), strict=True):
        await flowq.run(flowq.Pipeline(name, keep, shards=shards), redis=nodes.url)

    watched = WatchedRedis(ClusterDialer(nodes.url, hash_tag="-"), "flowq")
    try:
        readings, silent = await watched.read()
        assert (sorted(reading.plan.name for reading in readings), silent) == (names, ())

        gone = nodes.nodes[2]
        nodes.nodes[5].kill()  # its replica: nobody takes over
        gone.kill()
        readings, silent = await watched.read()
        assert silent == (by_primary[gone],)
        assert sorted(reading.plan.name for reading in readings) == sorted({*names} - {by_primary[gone]})

        again = WatchedRedis(ClusterDialer(nodes.url, hash_tag="-"), "flowq")
        try:
            readings, _ = await again.read()
            assert sorted(reading.plan.name for reading in readings) == sorted({*names} - {by_primary[gone]})
        finally:
            await again.close()
    finally:
        await watched.close()


def _a_name_for_each_primary(nodes: Cluster) -> dict[Node, str]:
    names: dict[Node, str] = {}
    for n in range(1000):
        names.setdefault(nodes.owner(key_slot(b"p%d" % n)), f"p{n}")
        if len(names) == 3:
            return names
    raise AssertionError("no name leads to one of the primaries")
