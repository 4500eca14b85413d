"""`flowq resume`: has a pipeline, or one of its stages, go on after `flowq pause`."""

from __future__ import annotations

import asyncio

from flowq.cli.commands.pause import Key, steered
from flowq.cli.framework.parameters import Here, PipelineOrStage
from flowq.printable import printable


def command(
    target: PipelineOrStage,
    key: Key = None,
    *,
    settings: Here,
) -> None:
    """Resume a pipeline, a stage or a key.

    Without a stage, everything of the pipeline that is paused goes on, but for keys. With --key a hold ends that a
    handler has asked for as well.

    Example:
      flowq resume scrape
      flowq resume scrape.store
      flowq resume scrape --key host=example.org
    """
    plan, stage, keyed = steered(target, key, settings)

    async def resume() -> str:
        from flowq.broker.open import open_broker
        from flowq.broker.records import WHOLE
        from flowq.inspector import Inspector

        async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
            inspector = Inspector(plan, broker)
            if key:
                ended = [await inspector.resume_key(paced, key.partition("=")[2]) for paced in keyed]
                return f"{key} is resumed in {', '.join(keyed)}" if any(ended) else f"{key} was not paused"
            was_paused = await inspector.resume(stage or None)
            if stage and WHOLE in await inspector.paused():
                return f"all of {plan.name} is still paused  (flowq resume {plan.name})"
        return f"{target} is resumed" if was_paused else f"{target} was not paused"

    print(printable(asyncio.run(resume())))
