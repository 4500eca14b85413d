"""Opens the broker of a pipeline as the settings say."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker
    from flowq.settings import Settings


def broker_of(pipeline: str, settings: Settings) -> AbstractAsyncContextManager[Broker]:
    """The broker of a pipeline, and where its large bodies lie, for the length of an `async with`."""
    from flowq.broker.open import open_broker

    return open_broker(
        pipeline,
        redis=settings.redis,
        namespace=settings.namespace,
        durability=settings.durability,
        claim_store=settings.claim_store,
    )
