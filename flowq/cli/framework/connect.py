"""How commands begin: the plan that their argument names, and the broker of a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from flowq.cli.framework.error_screen import shown
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


def own_data(settings: Settings) -> str:
    """The data folder of a project, as a person in the current directory would write it."""
    return f"{shown(settings.data_folder)}/"


def broker_of(pipeline: str, settings: Settings, *, needs_bodies: bool = True) -> AbstractAsyncContextManager[Broker]:
    """The broker of a pipeline, for the length of an `async with`.

    Without `needs_bodies` it is for commands that neither add nor read messages: settings for those cannot stop them.
    """
    from flowq.broker.open import open_broker

    return open_broker(pipeline, settings if needs_bodies else replace(settings, durability="local", claim_store=None))


def with_broker(
    pipeline: str, settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, T]], *, needs_bodies: bool = True
) -> T:
    """Run `work` with the broker of a pipeline (see `broker_of`); returns its result."""

    async def opened() -> T:
        async with broker_of(pipeline, settings, needs_bodies=needs_bodies) as broker:
            return await work(broker)

    return asyncio.run(opened())
