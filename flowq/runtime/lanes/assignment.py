"""Decides which worker serves which shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b

COPIES = 2
"""How many workers serve each shard, if there are so many: the death of one of them then leaves none idle."""


def assign(workers: Collection[str], n_shards: int, copies: int = COPIES) -> Mapping[str, frozenset[int]]:
    """The shards of each worker: every process that asks gets the same answer.

    Each shard has min(copies, workers) workers, and the loads of two workers differ by at most one. As far as that
    allows, a worker has the shards for which it ranks highest: few change hands when workers come and go.

    >>> {worker: sorted(shards) for worker, shards in assign(["a"], 3).items()}
    {'a': [0, 1, 2]}
    >>> sorted(len(shards) for shards in assign(["a", "b", "c"], 4).values())
    [2, 3, 3]
    """
    if not workers:
        return {}
    copies = min(copies, len(workers))
    each, n_with_more = divmod(n_shards * copies, len(workers))
    eldest = sorted(workers, key=lambda worker: _rank(worker, "load"))
    left = {worker: each + (place < n_with_more) for place, worker in enumerate(eldest)}
    served: dict[str, set[int]] = {worker: set() for worker in workers}
    for shard in range(n_shards):
        n_still_open = n_shards - shard
        # One that needs all shards that are still open comes first: later it could not get enough different ones.
        ranked = sorted(left, key=lambda worker: (left[worker] < n_still_open, _rank(worker, shard)))
        for worker in [worker for worker in ranked if left[worker]][:copies]:
            served[worker].add(shard)
            left[worker] -= 1
    return {worker: frozenset(shards) for worker, shards in served.items()}


def _rank(worker: str, what: int | str) -> bytes:
    return blake2b(f"{worker} {what}".encode(), digest_size=8).digest()
