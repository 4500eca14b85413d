"""`flowq config`: shows the settings that apply, and where each comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.options import Json, Namespace, PipelineNameOrNone, Profile, RedisUrl, settings_here

if TYPE_CHECKING:
    from flowq.graph.plan import Plan, StagePlan
    from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it applies. `name` is what it is called in [tool.flowq]."""

    name: str
    value: str
    origin: str


def command(
    name: PipelineNameOrNone = None,
    origin: Annotated[bool, typer.Option("--origin", help="Show where each value comes from.")] = False,
    json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Show the settings that apply, and where each comes from; with NAME, those of its stages as well.

    Later ones win: built-in, @stage(...), [tool.flowq] in pyproject.toml, its profile, FLOWQ_* variables, options.
    Passwords are not shown.

    Example:
      flowq config
      flowq config scrape --origin
      FLOWQ_SCRAPE__FETCH__CONCURRENCY=32 flowq config scrape --origin
    """
    settings = settings_here(redis=redis, namespace=namespace, profile=profile)
    found = list(of_project(settings))
    if name is not None:
        from flowq.cli.loading import load

        found += of_pipeline(load(name, settings).pipeline.plan, settings)
    if json:
        from flowq.cli.printable import json_text

        print(json_text([asdict(setting) for setting in found], indent=True))
    else:
        _print_table(found, origin=origin)


def of_project(settings: Settings) -> Iterator[Setting]:
    """What holds for every pipeline."""
    from flowq.broker.connection import redact

    values = {
        "redis": redact(settings.redis) if settings.redis else "flowq's own, in .flowq/",
        "pipelines": ", ".join(settings.pipelines),
        "namespace": settings.namespace,
        "lease": f"{settings.lease_seconds:g}s",
        "grace": f"{settings.grace_seconds:g}s",
        "workers": str(settings.workers),
        "durability": settings.durability,
    }
    for name, value in values.items():
        yield Setting(name, value, settings.origin[name])


def of_pipeline(plan: Plan, settings: Settings) -> Iterator[Setting]:
    """What holds for each stage of one pipeline."""
    from flowq.cli.errors import shown

    wanted = settings.of_stages(plan.name, [stage.name for stage in plan.consumers])
    for stage in plan.consumers:
        here = f"@stage {shown(stage.place.file)}:{stage.place.line}"
        for option, value, is_default in _options(stage):
            if option == "concurrency" and (setting := wanted.get(stage.name)):
                yield Setting(f"{stage.name}.{option}", str(setting.concurrency), setting.origin)
            else:
                yield Setting(f"{stage.name}.{option}", value, "built-in" if is_default else here)


def _options(stage: StagePlan) -> Iterator[tuple[str, str, bool]]:
    """The options of a stage: name, value, and whether it is what a stage has that says nothing."""
    from flowq.delivery.policy import AckMode, Retry
    from flowq.graph.options import Options
    from flowq.graph.render.labels import key_name

    yield "concurrency", str(stage.concurrency), stage.concurrency == Options().concurrency
    backoff = stage.retry.backoff
    spread = f"{backoff.base_seconds:g}s to {backoff.max_seconds:g}s"
    yield "retry", f"{stage.retry.attempts} attempts, {spread}", stage.retry == Retry()
    yield "timeout", f"{stage.timeout_seconds:g}s" if stage.timeout_seconds else "none", not stage.timeout_seconds
    yield "ack", stage.ack, stage.ack is AckMode.AFTER
    if stage.batch:
        yield "batch", f"{stage.batch.size}, linger {stage.batch.linger_seconds:g}s", False
    if rate := stage.rate:
        yield "rate", f"{rate.n:g} in {rate.per:g}s" + (f" per {key_name(rate.by)}" if rate.by else ""), False
        for key, own in rate.keys.items():
            yield f"rate {key}", f"{own.n:g} in {own.per:g}s", False
    if stage.dedup:
        yield "dedup", key_name(stage.dedup), False


def _print_table(found: list[Setting], *, origin: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from flowq.cli.printable import printable
    from flowq.cli.table import console_for

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    if origin:
        table.add_column("from", overflow="fold")
    for setting in found:
        came_from = Text(printable(setting.origin), "dim" if setting.origin == "built-in" else "cyan")
        cells = [Text(setting.name), Text(printable(setting.value)), came_from]
        table.add_row(*cells[: 3 if origin else 2])
    console_for(sys.stdout).print(table)
