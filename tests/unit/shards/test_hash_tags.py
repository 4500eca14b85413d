"""The hash tags of shards: they divide over equal primaries of a Cluster, wherever the name has put the first one."""

from __future__ import annotations

from collections import Counter

import pytest
from redis.crc import key_slot

from flowq.broker.keys import hash_tag
from flowq.delivery.placement import MOST_SHARDS

NAMES = [f"{word}{end}" for word in ("orders", "crawl", "scrape", "shop") for end in ("", "_x", "_prod", "2", "A", "B")]
SLOTS = 16384


def on_primaries(pipeline: str, shards: int, primaries: int) -> list[int]:
    """How many shards each primary has, when their slots are divided as `redis-cli --cluster create` does."""
    slots = (key_slot(hash_tag(pipeline, shard).encode()) for shard in range(shards))
    found = Counter(slot * primaries // SLOTS for slot in slots)
    return [found[primary] for primary in range(primaries)]


@pytest.mark.parametrize(
    ("shards", "primaries"),
    [(3, 3), (6, 2), (6, 3), (6, 6), (12, 2), (12, 3), (12, 4), (12, 6)]
    + [(n, m) for n in (24, 48) for m in (2, 3, 4, 6, 8)],
)
def test_twelve_times_a_power_of_two_divides_equally(shards: int, primaries: int) -> None:
    for name in NAMES:
        assert set(on_primaries(name, shards, primaries)) == {shards // primaries}, name


@pytest.mark.parametrize("primaries", [2, 3, 4, 6])
@pytest.mark.parametrize("shards", [16, 32, 64])
def test_a_power_of_two_differs_by_one_at_most(shards: int, primaries: int) -> None:
    for name in NAMES:
        counts = on_primaries(name, shards, primaries)
        assert max(counts) - min(counts) <= 1, (name, counts)


def test_other_numbers_on_three_primaries_differ_by_three_at_most() -> None:
    for name in NAMES:
        for shards in range(1, MOST_SHARDS + 1):
            counts = on_primaries(name, shards, 3)
            assert max(counts) - min(counts) <= 3, (name, counts)


def test_no_two_shards_have_one_tag_and_the_first_has_the_name() -> None:
    assert len({hash_tag("scrape", shard) for shard in range(MOST_SHARDS)}) == MOST_SHARDS
    assert hash_tag("scrape", 0) == "scrape"
