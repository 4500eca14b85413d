"""The lab does what it says: to a cluster of both versions of Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from flowq.broker.keys import Keys
from tests.cluster.lab import NAMESPACE, Lab, empty_out, fill, lab, plain_servers, proxied_lab, slot_of
from tests.redis_server import KINDS

SHARDS = [Keys(NAMESPACE, "crawl").in_shard(k) for k in range(6)]


@pytest.fixture(params=KINDS, scope="module")
def six(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with lab(request.param) as six:
        yield six


def test_a_slot_moves_with_every_key(six: Lab) -> None:
    keys = SHARDS[1]
    source = six.primary_of(keys)
    for i in range(5):
        source.client.set(f"{keys.scratch}{i}", i)
    target = next(node for node in six.primaries() if node is not source)

    assert six.move_key_by_key(slot_of(keys), target, pause=lambda: None) == 5

    assert six.primary_of(keys) is target
    assert [target.client.get(f"{keys.scratch}{i}") for i in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_replica_that_was_frozen_takes_over_without_what_it_missed(six: Lab) -> None:
    keys = SHARDS[2]
    primary = six.primary_of(keys)
    replica = six.replica_of(primary)
    primary.client.set(f"{keys.scratch}seen", 1)
    primary.call("WAIT", 1, 0)
    replica.freeze()
    primary.client.set(f"{keys.scratch}missed", 1)
    primary.kill()
    replica.thaw()

    six.wait_for_promotion(primary, replica)

    assert six.primary_of(keys) is replica
    assert replica.client.exists(f"{keys.scratch}seen", f"{keys.scratch}missed") in {1, 2}  # the kernel has buffers
    primary.start()
    six.wait_until_whole()


def test_a_pair_that_was_killed_comes_back_with_its_data(six: Lab) -> None:
    keys = SHARDS[3]
    primary = six.primary_of(keys)
    pair = primary, six.replica_of(primary)
    primary.client.set(f"{keys.scratch}kept", 1)
    for node in pair:
        node.kill()
    for node in pair:
        node.start()
    six.wait_until_whole()

    assert six.primary_of(keys).client.get(f"{keys.scratch}kept") == b"1"


def test_a_full_primary_refuses_what_needs_memory(six: Lab) -> None:
    keys = SHARDS[4]
    primary = six.primary_of(keys)
    fill(primary)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        primary.client.set(f"{keys.scratch}more", 1)
    empty_out(primary)

    assert primary.client.set(f"{keys.scratch}more", 1)


async def test_clients_of_a_lab_with_proxies_are_told_of_nothing_else() -> None:
    async with proxied_lab() as six:
        slots = six.nodes[0].call("CLUSTER", "SLOTS")

    assert {primary[0] for _, _, primary, *_ in slots} == {b"127.0.0.2"}
    assert {primary[1] for _, _, primary, *_ in slots} == {proxy.port for proxy in six.proxies[:3]}


def test_plain_servers_share_the_shards_in_turn() -> None:
    with plain_servers(2) as servers:
        assert [servers.nodes.index(servers.primary_of(keys)) for keys in SHARDS] == [0, 1, 0, 1, 0, 1]
