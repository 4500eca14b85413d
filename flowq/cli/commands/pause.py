"""`flowq pause`: lets a pipeline, a stage or a key start nothing new until it is resumed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import audited, plan_and_stage, with_broker
from flowq.cli.framework.invocation import as_typed
from flowq.cli.framework.parameters import Here, PipelineOrStage, pairs_of
from flowq.errors import BrokerUnavailable, UsageError
from flowq.printable import printable

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker
    from flowq.graph.compilation.plan import Plan
    from flowq.inspector import Inspector
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

    Workers notice within a second: running messages finish, all others wait, and so do new ones. The pause outlasts
    restarts and ends with flowq resume. A draining run waits until then.

    Example:
      flowq pause scrape
      flowq pause scrape.store
      flowq pause scrape --key host=example.org
    """
    plan, stage, keyed = steered(target, key, settings)

    async def pause(broker: Broker) -> str:
        from flowq.inspector import Inspector

        inspector = Inspector(plan, broker)
        if key:
            async with audited(broker, "pause", stage, "--key", key):
                for paced in keyed:
                    await inspector.pause_key(paced, key.partition("=")[2])
            return f"{key} is paused in {', '.join(keyed)}  (flowq resume {target} --key {shlex.quote(key)})"
        async with audited(broker, "pause", stage):
            is_new = await inspector.pause(stage or None)
        finishing = await _finishing_words(inspector, stage)
        return f"{target} {'is' if is_new else 'was already'} paused{finishing}  (flowq resume {target})"

    print(printable(as_typed(with_broker(plan.name, settings, pause, needs_bodies=False))))


async def _finishing_words(inspector: Inspector, stage: str) -> str:
    """What is still running. A shard that does not answer cannot tell: paused it is nevertheless."""
    try:
        balances = await inspector.balance()
    except BrokerUnavailable as error:
        return f"; what is running will finish ({error.message})"
    running = sum(balances[name].running for name in ([stage] if stage else balances))
    return f"; {running:,} running will finish" if running else ""


def steered(target: str, key: str | None, settings: Settings) -> tuple[Plan, str, Sequence[str]]:
    """The plan, the stage ("" for all), and with a key the stages that are paced by its field."""
    plan, stage = plan_and_stage(target, settings)
    return plan, stage, _paced_stages(plan, stage, key) if key else ()


def _paced_stages(plan: Plan, stage: str, key: str) -> Sequence[str]:
    """The stages, or the given one, that are paced by the field of FIELD=VALUE. Raises UsageError for none."""
    ((field, _),) = pairs_of("--key", [key], "FIELD=VALUE").items()
    paced = {name.name: name.rate.by for name in plan.consumers if name.rate and stage in ("", name.name)}
    found = [name for name, by in paced.items() if by == field]
    if not found:
        known = ", ".join(f"{name} by {by}" for name, by in paced.items() if by)
        hint = f"paced are: {known}" if known else f'a stage needs  rate=Rate(..., by="{field}")  for that'
        raise UsageError(
            f'{stage or f"no stage of {plan.name}"} is {"not " * bool(stage)}paced by "{field}"', hint=hint
        )
    return found
