"""`flowq pause`: has a pipeline, or one of its stages, start nothing new until it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.parameters import Here, PipelineOrStage
from flowq.errors import UsageError
from flowq.printable import printable

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings

Key = Annotated[
    str | None,
    typer.Option("--key", "-k", metavar="FIELD=VALUE", help="Only messages of this pacing key: host=example.org."),
]


def command(
    target: PipelineOrStage,
    key: Key = None,
    *,
    settings: Here,
) -> None:
    """Pause a pipeline, a stage or a key.

    Workers notice within a second: what they run finishes, everything else waits, and what is pushed waits as well.
    It stays so over restarts until `flowq resume`. A run that drains waits for that.

    Example:
      flowq pause scrape
      flowq pause scrape.store
      flowq pause scrape --key host=example.org
    """
    plan, stage, keyed = steered(target, key, settings)

    async def pause() -> str:
        from flowq.broker.open import open_broker
        from flowq.broker.runs import balance_of
        from flowq.inspector import Inspector

        async with open_broker(plan.name, redis=settings.redis, namespace=settings.namespace) as broker:
            inspector = Inspector(plan, broker)
            if key:
                for paced in keyed:
                    await inspector.pause_key(paced, key.partition("=")[2])
                return f"{key} is paused in {', '.join(keyed)}  (flowq resume {target} --key {key})"
            is_new = await inspector.pause(stage or None)
            snapshot = await inspector.snapshot()
        balances = balance_of(plan, snapshot)
        running = sum(balances[name].running for name in ([stage] if stage else balances))
        finishing = f"; {running:,} running will finish" if running else ""
        return f"{target} {'is' if is_new else 'was already'} paused{finishing}  (flowq resume {target})"

    print(printable(asyncio.run(pause())))


def steered(target: str, key: str | None, settings: Settings) -> tuple[Plan, str, Sequence[str]]:
    """The pipeline and the stage meant ("" for all of it), and with a key the stages that are paced by its field."""
    from flowq.cli.framework.loading import load

    name, _, stage = target.partition(".")
    plan = load(name, settings).pipeline.plan
    if stage:
        plan.stage(stage)
    return plan, stage, _paced_stages(plan, stage, key) if key else ()


def _paced_stages(plan: Plan, stage: str, key: str) -> Sequence[str]:
    """The stages, or the one that was named, that are paced by the field of FIELD=VALUE. Raises UsageError for none."""
    field, equals, value = key.partition("=")
    if not field or not equals or not value:
        raise UsageError(f"--key {key} is not FIELD=VALUE", hint="write  --key host=example.org")
    paced = {name.name: name.rate.by for name in plan.consumers if name.rate and stage in ("", name.name)}
    found = [name for name, by in paced.items() if by == field]
    if not found:
        known = ", ".join(f"{name} by {by}" for name, by in paced.items() if by)
        hint = f"paced are: {known}" if known else f'a stage needs  rate=Rate(..., by="{field}")  for that'
        raise UsageError(
            f'{stage or f"no stage of {plan.name}"} is {"not " * bool(stage)}paced by "{field}"', hint=hint
        )
    return found
