"""Opens pipelines for a look from outside, once or again and again. Needs no worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from flowq.cli.framework.connect import broker_for_views, plan_of
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.loading import Broken, load_all
from flowq.cli.framework.neighbours import way_to
from flowq.errors import BrokerUnavailable, FlowqError
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.settings import Settings

T = TypeVar("T")
EVERY_SECONDS = 1.0


def plans_of(name: str | None, settings: Settings) -> list[Plan]:
    """The plan of that name; without one those that can be loaded, and what keeps the others from it on stderr."""
    if name is not None:
        return [plan_of(name, settings)]
    plans: list[Plan] = []
    found, broken = load_all(settings)
    for loaded in found:
        try:
            plans.append(loaded.tuned(settings).pipeline.plan)
        except FlowqError as error:
            broken.append(Broken([loaded.name], "", error))
    for one in broken:
        note(f"{', '.join(one.names)}: {one.error.message}  (flowq check {' '.join(one.names)})")
    if not plans:
        note(f"no pipelines here  ({way_to('', settings) or 'flowq ls'})")
    return plans


@asynccontextmanager
async def inspectors_of(plans: Sequence[Plan], settings: Settings) -> AsyncGenerator[list[Inspector]]:
    """One inspector for each plan. Held open together, so that a server of our own is started once."""
    async with AsyncExitStack() as opened:
        brokers = [await opened.enter_async_context(broker_for_views(plan, settings)) for plan in plans]
        yield [Inspector(plan, broker) for plan, broker in zip(plans, brokers, strict=True)]


async def again_and_again(
    look: Callable[[], Awaitable[T]], *, every_seconds: float = EVERY_SECONDS, wake: asyncio.Event | None = None
) -> AsyncIterator[T | BrokerUnavailable]:
    """What a look shows, at once, and then at intervals or when woken. Only the first must succeed."""
    wake = wake or asyncio.Event()
    has_seen = False
    while True:
        try:
            yield await look()
            has_seen = True
        except BrokerUnavailable as error:
            if not has_seen:
                raise
            yield error
        try:
            async with asyncio.timeout(every_seconds):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
