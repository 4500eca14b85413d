"""Which worker serves which shards: all decide alike, all shards are served, and loads differ by at most one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.keys import MOST_SHARDS
from flowq.runtime.lanes.assignment import assign

WORKERS = st.sets(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=1, max_size=12)
SHARDS = st.integers(1, MOST_SHARDS)
COPIES = st.integers(1, 3)


@given(WORKERS, SHARDS, COPIES)
def test_each_shard_has_as_many_workers_as_it_should(workers: set[str], n_shards: int, copies: int) -> None:
    served = assign(workers, n_shards, copies)

    for shard in range(n_shards):
        assert sum(shard in shards for shards in served.values()) == min(copies, len(workers))


@given(WORKERS, SHARDS, COPIES)
def test_the_loads_of_two_workers_differ_by_at_most_one(workers: set[str], n_shards: int, copies: int) -> None:
    loads = [len(shards) for shards in assign(workers, n_shards, copies).values()]

    assert len(loads) == len(workers)
    assert max(loads) - min(loads) <= 1


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1), SHARDS)
def test_all_workers_decide_alike_whatever_order_they_hear_of_each_other_in(workers: list[str], n_shards: int) -> None:
    assert assign(workers, n_shards) == assign(workers[::-1], n_shards)


def test_a_worker_alone_serves_all_shards_and_no_worker_none() -> None:
    assert assign(["a"], 3) == {"a": frozenset({0, 1, 2})}
    assert assign([], 3) == {}
