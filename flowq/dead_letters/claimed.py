"""Fetches the bodies of dead and kept messages from the claim store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Header
from flowq.errors import DecodeError
from flowq.large_bodies.reference import is_claimed
from flowq.large_bodies.store import content_of


async def with_contents(broker: Broker, entries: Sequence[DeadEntry]) -> list[DeadEntry]:
    """These entries with their bodies in them, as far as they can be read here."""
    return [await _with_content(broker, entry) if is_claimed(entry.header) else entry for entry in entries]


async def _with_content(broker: Broker, entry: DeadEntry) -> DeadEntry:
    if entry.body is None or entry.is_amended:
        return entry
    try:
        content = await content_of(broker.claims, Header.decode(entry.header), entry.body)
    except (DecodeError, ValueError):
        return entry
    return replace(entry, content=content)
