"""Two shards of one pipeline for every test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.delivery.policy import DedupMemory
from tests.conformance.shards.seen_shards import SeenShards
from tests.conformance.shards.two_shards import Shard, two_shards


class MakeShards(Protocol):
    async def __call__(
        self, *, memory: Mapping[str, DedupMemory] | None = ..., keeps_answers: bool = ...
    ) -> tuple[Shard, Shard]:
        """Two shards, in which the edges of `memory` deduplicate."""
        ...


@pytest.fixture
async def make_shards(dialer: Dialer, keys: Keys) -> AsyncIterator[MakeShards]:
    """Make shards, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def make(
            *, memory: Mapping[str, DedupMemory] | None = None, keeps_answers: bool = False
        ) -> tuple[Shard, Shard]:
            shards = await two_shards(dialer, keys, memory=memory, keeps_answers=keeps_answers)
            for shard in shards:
                stack.push_async_callback(shard.close)
            return shards

        yield make


@pytest.fixture
async def here(make_shards: MakeShards) -> Shard:
    """The first of two shards."""
    shard, _ = await make_shards()
    return shard


@pytest.fixture
async def seen(dialer: Dialer, keys: Keys) -> AsyncIterator[SeenShards]:
    shards = await SeenShards.of(dialer, keys)
    yield shards
    await shards.close()
