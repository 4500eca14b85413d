"""What is wrong with the servers of a pipeline's shards, from what they tell about themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq.broker.inspection.health import Health
from flowq.broker.inspection.merging.primaries import Primaries, Primary
from flowq.broker.inspection.merging.primaries_diagnosis import primaries_findings

INFO = {"redis_version": "7.0.15", "aof_enabled": "1", "maxmemory_policy": "noeviction", "slave0": "state=online"}
HEALTH = Health.of(INFO, {}, topology="single", ahead_seconds=0.0)
FINE = Primary("a:1", [0, 2], HEALTH, confirms=True, replica_timeout_seconds=10, needs_all_slots=False)
OTHER = replace(FINE, address="b:2", shards=[1, 3])


def found(seen: Primaries) -> list[str]:
    return [f"{problem.code} {problem.text}" for problem in primaries_findings(seen)]


def test_nothing_is_wrong_with_primaries_that_are_set_up_well() -> None:
    assert found(Primaries([FINE, OTHER], ok={0: 500, 1: 900, 2: 400, 3: 700})) == []


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        (0.9, []),
        (-0.9, []),
        (1.2, ["FQ435 the clock of b:2 is 1.2s ahead of that of a:1"]),
        (-1.2, ["FQ435 the clock of a:1 is 1.2s ahead of that of b:2"]),
    ],
)
def test_clocks_of_primaries_are_compared_with_each_other(apart: float, expected: list[str]) -> None:
    other = replace(OTHER, health=replace(HEALTH, clock_ahead_seconds=apart))

    assert found(Primaries([FINE, other])) == expected


def test_what_a_later_server_may_lose_is_said_of_it_by_name() -> None:
    other = replace(OTHER, health=replace(HEALTH, eviction="allkeys-lru"))

    assert [text.partition(":")[0] for text in found(Primaries([FINE, other]))] == ["FQ410 b"]


def test_a_shard_with_twice_the_work_of_the_others_is_named() -> None:
    assert found(Primaries([FINE, OTHER], ok={0: 100, 1: 100, 2: 3000, 3: 100})) == [
        "FQ437 shard 2 has handled 3.6 times as many messages as the average shard"
    ]
    assert found(Primaries([FINE, OTHER], ok={0: 1, 1: 1, 2: 30, 3: 1})) == []


def test_a_server_without_a_replica_is_named_unless_it_is_there_to_try_things_out() -> None:
    alone = Primaries([replace(FINE, health=replace(HEALTH, replicas=0), confirms=None)])

    assert found(alone) == ["FQ431 a:1 has no replica: while it is away, shards 0, 2 cannot work"]
    assert primaries_findings(alone, is_on_trial=True) == []


def test_messages_that_a_server_has_forgotten_are_counted() -> None:
    assert found(Primaries([FINE, OTHER], lost={1: 20, 3: 1})) == [
        "FQ436 21 messages to shards 1, 3 lost: Redis had confirmed and then forgot them"
    ]
