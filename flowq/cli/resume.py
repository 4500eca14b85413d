"""`flowq resume`: has a pipeline, or one of its stages, go on after `flowq pause`."""

from __future__ import annotations

import asyncio

from flowq.cli.options import Namespace, Profile, RedisUrl, settings_here
from flowq.cli.pause import Steered


def command(
    target: Steered,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Have a pipeline, or one stage, go on after a pause.

    Without a stage, everything of the pipeline that is paused goes on.

    Example:
      flowq resume scrape
      flowq resume scrape.store
    """
    from flowq.cli.loading import load

    settings = settings_here(redis=redis, namespace=namespace, profile=profile)
    name, _, stage = target.partition(".")
    plan = load(name, settings).pipeline.plan
    if stage:
        plan.stage(stage)

    async def resume() -> str:
        from flowq.broker.open import open_broker
        from flowq.broker.records import WHOLE
        from flowq.inspector import Inspector

        async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
            inspector = Inspector(plan, broker)
            was_paused = await inspector.resume(stage or None)
            if stage and WHOLE in await inspector.paused():
                return f"all of {name} is still paused  (flowq resume {name})"
        return f"{target} goes on" if was_paused else f"{target} was not paused"

    print(asyncio.run(resume()))
