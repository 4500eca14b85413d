"""Which shard a key belongs to: evenly, for ever, and the same in every process."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import (
    CELLS,
    MOST_SHARDS,
    cell_in,
    cell_of,
    cell_of_hash,
    cells,
    shard_of,
    with_cell,
)
from flowq.delivery.policy import APPROXIMATE_HASH_BYTES, HASH_BYTES

SHARDS = st.integers(1, MOST_SHARDS)
HASHES = st.binary(min_size=16, max_size=16)


@given(st.binary(), SHARDS)
def test_a_key_is_in_one_of_the_shards(key: bytes, n: int) -> None:
    assert 0 <= shard_of(key, n) < n


@given(HASHES, SHARDS)
def test_as_much_of_a_hash_as_is_always_stored_tells_its_shard(hash_: bytes, n: int) -> None:
    assert cells(n)[cell_of_hash(hash_)] == cells(n)[cell_of_hash(hash_[:APPROXIMATE_HASH_BYTES])]


@pytest.mark.parametrize("n", [1, 2, 3, 6, 16, 17, 32, 64])
def test_cells_are_dealt_evenly(n: int) -> None:
    dealt = Counter(cells(n))
    assert set(dealt) == set(range(n))
    assert max(dealt.values()) < 1.5 * CELLS / n


@pytest.mark.parametrize("n", [2, 6, 16, 32])
def test_keys_are_dealt_evenly(n: int) -> None:
    hosts = Counter(shard_of(f"host{number}.example".encode(), n) for number in range(40_000))
    urls = Counter(cells(n)[cell_of_hash(dedup_hash(f"https://example.org/{number}"))] for number in range(40_000))
    for dealt in (hosts, urls):
        assert 0.7 * 40_000 / n < min(dealt.values()) < max(dealt.values()) < 1.4 * 40_000 / n


@given(SHARDS, SHARDS)
def test_with_more_shards_a_cell_stays_or_moves_to_a_new_one(a: int, b: int) -> None:
    fewer, more = sorted((a, b))
    for before, after in zip(cells(fewer), cells(more), strict=True):
        assert after in (before, *range(fewer, more))


@pytest.mark.parametrize(("fewer", "more"), [(16, 32), (16, 17), (1, 16), (6, 12)])
def test_no_more_cells_move_than_the_new_shards_need(fewer: int, more: int) -> None:
    n_moved = sum(before != after for before, after in zip(cells(fewer), cells(more), strict=True))
    assert n_moved / CELLS == pytest.approx((more - fewer) / more, abs=0.03)


def test_placement_is_part_of_what_is_stored_and_never_changes() -> None:
    # Another version of flowq must find each key where this one has put it.
    assert [shard_of(key, 16) for key in (b"", b"example.org", "höst".encode(), b"\xff")] == [8, 6, 7, 8]
    assert cells(64)[:8].hex() == "39293a140821043e"
    assert cell_of_hash(dedup_hash("https://example.org/")) == 3822


@given(HASHES, st.integers(0, CELLS - 1), st.sampled_from([HASH_BYTES, APPROXIMATE_HASH_BYTES]))
def test_a_hash_carries_its_cell_and_is_still_recognised_by_what_one_shard_has_stored(
    hash_: bytes, cell: int, n_bytes: int
) -> None:
    carrying = with_cell(hash_, cell, n_bytes)
    assert len(carrying) == len(hash_)
    assert carrying[:n_bytes] == hash_[:n_bytes]
    assert cell_in(carrying[: n_bytes + 2], n_bytes) == cell


def test_hashes_of_one_cell_choose_their_buckets_evenly() -> None:
    # The last bytes of what is stored are the number of a bucket: the cell of the only host must not fill one.
    cell = cell_of(b"example.org")
    stored = [with_cell(dedup_hash(number), cell, HASH_BYTES)[: HASH_BYTES + 2] for number in range(16_000)]
    buckets = Counter(int.from_bytes(value[-4:]) % 64 for value in stored)
    assert len(buckets) == 64
    assert max(buckets.values()) < 2 * 16_000 / 64
