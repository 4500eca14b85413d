"""How commands begin: the plan that their argument names, the broker of a pipeline, and the record of what they do."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from flowq.cli.framework.error_screen import shown
from flowq.cli.framework.loading import load

if TYPE_CHECKING:
    from flowq.broker.audit import Act
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

    return open_broker(pipeline, settings if needs_bodies else without_bodies(settings))


def broker_for_views(
    plan: Plan, settings: Settings, *, needs_bodies: bool = False
) -> AbstractAsyncContextManager[Broker]:
    """The broker of a pipeline, only to look at it: no single shard has to answer."""
    from flowq.broker.open import open_broker

    return open_broker(
        plan.name, settings if needs_bodies else without_bodies(settings), plan.shards, needs_first=False
    )


def with_broker_for_views(plan: Plan, settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, T]]) -> T:
    """Run `work`, which only looks at a pipeline and its messages; returns its result."""

    async def opened() -> T:
        async with broker_for_views(plan, settings, needs_bodies=True) as broker:
            return await work(broker)

    return asyncio.run(opened())


def without_bodies(settings: Settings) -> Settings:
    """The settings for a command that neither adds nor reads messages."""
    return replace(settings, durability="local", claim_store=None)


def with_broker(
    pipeline: str, settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, T]], *, needs_bodies: bool = True
) -> T:
    """Run `work` with the broker of a pipeline (see `broker_of`); returns its result."""

    async def opened() -> T:
        async with broker_of(pipeline, settings, needs_bodies=needs_bodies) as broker:
            return await work(broker)

    return asyncio.run(opened())


def audited(broker: Broker, action: str, *words: str) -> AbstractAsyncContextManager[Act]:
    """Record what is done in the `async with` as an action of this terminal's user.

    words: what it is about, as it is typed after the name of the pipeline; empty ones are left out.
    """
    from flowq.broker.audit import Audit
    from flowq.wording.shell_commands import shell_command

    return Audit(broker).of(_user(), action, shell_command(*filter(None, words)))


def _user() -> str:
    """The user and the machine, such as "ana@build-3"."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
