"""How commands begin: the plan that their argument names, and the broker of a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from flowq.cli.framework.loading import load

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings

T = TypeVar("T")


def plan_of(name: str, settings: Settings) -> Plan:
    """The plan of a pipeline. Raises as `load` does."""
    return load(name, settings).pipeline.plan


def plan_and_stage(target: str, settings: Settings) -> tuple[Plan, str]:
    """The plan, and the stage of it that NAME.STAGE names; "" for NAME alone. Raises NotFound for an unknown stage."""
    name, _, stage = target.partition(".")
    plan = plan_of(name, settings)
    return plan, plan.stage(stage).name if stage else ""


def broker_of(pipeline: str, settings: Settings) -> AbstractAsyncContextManager[Broker]:
    """The broker of a pipeline, with the store of its large bodies, for the length of an `async with`."""
    from flowq.broker.open import open_broker

    return open_broker(
        pipeline,
        redis=settings.redis,
        namespace=settings.namespace,
        durability=settings.durability,
        claim_store=settings.claim_store,
    )


def with_broker(pipeline: str, settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the broker of a pipeline; returns its result."""

    async def opened() -> T:
        async with broker_of(pipeline, settings) as broker:
            return await work(broker)

    return asyncio.run(opened())
