"""`flowq resume`: ends what `flowq pause` began, and the holds of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowq.cli.commands.pause import Key, steered
from flowq.cli.framework.connect import audited, with_broker
from flowq.cli.framework.invocation import as_typed
from flowq.cli.framework.parameters import Here, PipelineOrStage
from flowq.printable import printable

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker


def command(
    target: PipelineOrStage,
    key: Key = None,
    *,
    settings: Here,
) -> None:
    """Resume a pipeline, a stage or a key.

    Without a stage, everything in the pipeline that is paused resumes, except keys. --key also ends a hold that a
    handler has asked for.

    Example:
      flowq resume scrape
      flowq resume scrape.store
      flowq resume scrape --key host=example.org
    """
    plan, stage, keyed = steered(target, key, settings)

    async def resume(broker: Broker) -> str:
        from flowq.broker.records import WHOLE
        from flowq.inspector import Inspector

        inspector = Inspector(plan, broker)
        if key:
            async with audited(broker, "resume", stage, "--key", key):
                ended = [await inspector.resume_key(paced, key.partition("=")[2]) for paced in keyed]
            return f"{key} is resumed in {', '.join(keyed)}" if any(ended) else f"{key} was not paused"
        async with audited(broker, "resume", stage):
            was_paused = await inspector.resume(stage or None)
        if stage and WHOLE in await inspector.paused():
            return f"all of {plan.name} is still paused  (flowq resume {plan.name})"
        return f"{target} is resumed" if was_paused else f"{target} was not paused"

    print(printable(as_typed(with_broker(plan.name, settings, resume, needs_bodies=False))))
