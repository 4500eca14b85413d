"""`flowq pause`: has a pipeline, or one of its stages, start nothing new until it is resumed."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from flowq.cli.options import Namespace, Profile, RedisUrl, complete_pipeline, settings_here

Steered = Annotated[
    str,
    typer.Argument(
        metavar="NAME[.STAGE]",
        help="The pipeline, or one stage of it.",
        autocompletion=complete_pipeline,
        show_default=False,
    ),
]


def command(
    target: Steered,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Have a pipeline, or one stage, start nothing new.

    Workers notice within a second: what they run finishes, everything else waits, and what is pushed waits as well.
    It stays so over restarts until `flowq resume`. A run that drains waits for that.

    Example:
      flowq pause scrape
      flowq pause scrape.store
    """
    from flowq.cli.loading import load

    settings = settings_here(redis=redis, namespace=namespace, profile=profile)
    name, _, stage = target.partition(".")
    plan = load(name, settings).pipeline.plan
    if stage:
        plan.stage(stage)

    async def pause() -> str:
        from flowq.broker.balance import balance_of
        from flowq.broker.open import open_broker
        from flowq.inspector import Inspector

        async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
            inspector = Inspector(plan, broker)
            is_new = await inspector.pause(stage or None)
            snapshot = await inspector.snapshot()
        balances = balance_of(plan, snapshot)
        running = sum(balances[name].running for name in ([stage] if stage else balances))
        finishing = f"; {running:,} running will finish" if running else ""
        return f"{target} is paused{'' if is_new else ' already'}{finishing}  (flowq resume {target})"

    print(asyncio.run(pause()))
