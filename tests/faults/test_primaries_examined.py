"""`flowq doctor` examines each server that holds shards: with a replica, without, hung, gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowq.broker.inspection.merging.primaries import Primaries, examine_primaries
from flowq.broker.inspection.merging.primaries_diagnosis import primaries_findings
from flowq.broker.open import open_broker
from flowq.errors import Problem
from flowq.settings import Settings
from tests.faults.deployments import Node, cluster, primary_with_replica


async def examined(url: str, n_shards: int = 4) -> Primaries:
    async with open_broker("lab", Settings.of_program(redis=url), n_shards) as broker:
        return await examine_primaries(broker)


def codes(findings: Sequence[Problem]) -> list[str]:
    return [problem.code for problem in findings]


def test_each_primary_of_a_cluster_is_examined_once_and_the_default_that_stops_all_is_named() -> None:
    with cluster() as nodes:
        nodes.nodes[0].call("CONFIG", "SET", "repl-timeout", 10)
        seen = asyncio.run(examined(nodes.url, 12))
        primaries = {node.address for node in nodes.nodes if node.replication["role"] == "master"}
        hasty = nodes.nodes[0].address

    assert {primary.address for primary in seen.found} == primaries
    assert sorted(shard for primary in seen.found for shard in primary.shards) == list(range(12))
    assert [primary.confirms for primary in seen.found] == [True] * 3
    found = codes(primaries_findings(seen))
    assert found.count("FQ434") == 1  # not once for each
    assert found.count("FQ433") == len(primaries - {hasty})


def test_servers_without_a_replica_and_with_one_that_hangs_are_named() -> None:
    with primary_with_replica() as (primary, replica), Node() as alone:
        url = f"redis+servers://{primary.address},{alone.address}"
        before = codes(primaries_findings(asyncio.run(examined(url))))
        replica.freeze()
        try:
            after = primaries_findings(asyncio.run(examined(url)))
        finally:
            replica.thaw()

    assert "FQ432" not in before
    assert [problem.text for problem in after if problem.code == "FQ432"] == [
        f"no replica of redis://{primary.address}/0 confirms what is written"
    ]
    assert [problem.text for problem in after if problem.code == "FQ431"] == [
        f"redis://{alone.address}/0 has no replica: while it is away, shards 1, 3 cannot work"
    ]


def test_shards_that_do_not_answer_are_named_and_the_others_examined() -> None:
    async def with_one_gone(url: str, gone: Node) -> Primaries:
        async with open_broker("lab", Settings.of_program(redis=url), 5) as broker:
            gone.kill()
            return await examine_primaries(broker)

    with Node() as first, Node() as second:
        seen = asyncio.run(with_one_gone(f"redis+servers://{first.address},{second.address}", second))

    assert [primary.shards for primary in seen.found] == [[0, 2, 4]]
    (problem,) = [problem for problem in primaries_findings(seen) if problem.code == "FQ430"]
    assert (problem.severity, problem.text.partition(" cannot")[0]) == ("error", "shards 1, 3")
