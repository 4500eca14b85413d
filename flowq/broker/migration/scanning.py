"""Reads large hashes and sorted sets in parts, each member at least once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker

_COUNT = 1000


async def scan(broker: Broker, command: bytes, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Members and scores of a sorted set (ZSCAN), or fields and values of a hash (HSCAN)."""
    cursor: Any = b"0"
    while True:
        cursor, found = await broker.answer(command, key, cursor, b"COUNT", _COUNT)
        for name, value in pairs(found):
            yield name, value
        if int(cursor) == 0:
            return
