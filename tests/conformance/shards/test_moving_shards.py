"""Another number of shards: all is in its place afterwards, once, however often the move was begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.migration.resharding import Resharding
from tests.conformance.shards.moving_lab import STAGES, Lab, home_of, page, plan_of

N = 60
DELAYED = range(0, N, 5)


@pytest.fixture
async def lab(dialer: Dialer, keys: Keys) -> AsyncIterator[Lab]:
    lab = Lab(dialer, keys)
    yield lab
    await lab.close()


async def move(lab: Lab, n_shards: int) -> None:
    broker = lab.opened(1)
    await Resharding(broker, plan_of(n_shards)).carry_out()


def expected(n_shards: int) -> Counter[tuple[int, str, str, bool]]:
    return Counter(
        (home_of(name, page(n), n_shards) or 0, name, page(n).url, n in DELAYED) for name in STAGES for n in range(N)
    )


async def test_waiting_and_delayed_messages_move_to_the_shards_of_their_keys(lab: Lab) -> None:
    await lab.fill(N, delayed=DELAYED)

    for n_shards in (6, 12):
        await move(lab, n_shards)

        assert await lab.messages(12) == expected(n_shards)
