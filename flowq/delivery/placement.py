"""Which shard a key belongs to, the same in every process: a key has a cell for ever, and cells are dealt to shards."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

CELLS = 4096
CELL_BYTES = 2
MOST_SHARDS = 64
"""How many shards a pipeline may have."""
_LCG = 2862933555777941757


@lru_cache(maxsize=128)
def cells(n: int) -> bytes:
    """The shard of each cell, when there are n shards: at most 256.

    Dealt by jump consistent hashing (Lamping and Veach, 2014): with another number of shards as few cells as possible
    move, and only between old shards and new ones.

    >>> len(cells(16)), sorted(set(cells(3))), set(cells(1))
    (4096, [0, 1, 2], {0})
    """
    return bytes(_jump(cell, n) for cell in range(CELLS))


def cell_of(key: bytes) -> int:
    """The cell of a key.

    >>> cell_of(b"example.org")
    735
    """
    return crc32(key) % CELLS


def shard_of(key: bytes, n: int) -> int:
    """The shard of a key, when there are n shards. A message that comes from outside without a key is placed by its id.

    >>> shard_of(b"example.org", 1), shard_of(b"example.org", 16)
    (0, 6)
    """
    return cells(n)[cell_of(key)]


def cell_of_hash(dedup_hash: bytes) -> int:
    """The cell of a deduplication hash. Its first bytes decide, since no more may be stored of it.

    >>> cell_of_hash(bytes.fromhex("1234567890"))
    564
    """
    return int.from_bytes(dedup_hash[:CELL_BYTES]) % CELLS


# A stage that deduplicates by one key and is placed by another could not tell from a stored hash in which shard it
# belongs. So its hashes carry the cell of their message, behind the bytes that identify the value. These stay as they
# are in one shard, where what was stored before is still recognised; and masked by the first bytes, the cell is no
# worse than other bytes for choosing the bucket that a hash is stored in.


def with_cell(dedup_hash: bytes, cell: int, n_bytes: int) -> bytes:
    """A deduplication hash that carries the cell of its message behind its first `n_bytes`, which identify the value.

    >>> with_cell(bytes(range(16)), 564, 10).hex()
    '0001020304050607080902350a0b0c0d'
    """
    mask = int.from_bytes(dedup_hash[:CELL_BYTES])
    return dedup_hash[:n_bytes] + (cell ^ mask).to_bytes(CELL_BYTES) + dedup_hash[n_bytes:-CELL_BYTES]


def cell_in(dedup_hash: bytes, n_bytes: int) -> int:
    """The cell that `with_cell` has put into a hash, of which no more than that may be stored.

    >>> cell_in(with_cell(bytes(range(16)), 564, 5)[:7], 5)
    564
    """
    carried = dedup_hash[n_bytes : n_bytes + CELL_BYTES]
    return int.from_bytes(carried) ^ int.from_bytes(dedup_hash[:CELL_BYTES])


def _jump(cell: int, n: int) -> int:
    shard, following = -1, 0
    state = crc32(cell.to_bytes(4)) << 32 | crc32(cell.to_bytes(4), 1)  # neighbouring cells must have nothing in common
    while following < n:
        shard = following
        state = (state * _LCG + 1) % 2**64
        following = int((shard + 1) * (2**31 / ((state >> 33) + 1)))
    return shard
