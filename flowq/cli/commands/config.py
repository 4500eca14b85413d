"""`flowq config`: shows the effective settings, and where each comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import own_data, plan_of
from flowq.cli.framework.error_screen import note, shown
from flowq.cli.framework.parameters import Here, Json, PipelineNameOrNone
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan
    from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """An effective setting. `name` is its name in [tool.flowq]."""

    name: str
    value: str
    origin: str


def command(
    name: PipelineNameOrNone = None,
    origin: Annotated[bool, typer.Option("--origin", help="Show where each value comes from.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show the effective settings and where each comes from; with NAME, those of its stages as well.

    In increasing order of precedence: built-in, @stage(...), [tool.flowq] in pyproject.toml, its profile, FLOWQ_*
    variables, command-line options. Passwords are not shown.

    Example:
      flowq config
      flowq config scrape --origin
      FLOWQ_SCRAPE__FETCH__CONCURRENCY=32 flowq config scrape --origin
    """
    found = list(of_project(settings))
    if name is not None:
        found += of_pipeline(plan_of(name, settings), settings)
    if json:
        print(json_text([asdict(setting) for setting in found], indent=True))
    else:
        _print_table(found, origin=origin)
        if settings.is_embedded:
            from flowq.broker.open import by_hand

            note(f"flowq's own Redis by hand:  {by_hand(shown(settings.data_folder))}")


def of_project(settings: Settings) -> Iterator[Setting]:
    """The settings of the project."""
    from flowq.broker.client.redis_url import redact

    own = f"flowq's own, in {own_data(settings)}"
    yield Setting("root", str(settings.root), str(settings.file) if settings.file else "the current folder")
    values = {
        "redis": own if settings.is_embedded else redact(settings.redis or ""),
        "pipelines": ", ".join(settings.pipelines),
        "namespace": settings.namespace,
        "lease": f"{settings.lease_seconds:g}s",
        "grace": f"{settings.grace_seconds:g}s",
        "workers": str(settings.workers),
        "durability": settings.durability,
        "claim_store": settings.claim_store or (own if settings.is_embedded else "none"),
    }
    for name, value in values.items():
        yield Setting(name, value, settings.origin[name])


def of_pipeline(plan: Plan, settings: Settings) -> Iterator[Setting]:
    """The options of each stage of a pipeline."""
    from flowq.graph.compilation.plan import EdgePlan, StagePlan

    chosen = settings.of_stages(plan.name, plan)
    for stage in plan.consumers:
        here = f"@stage {shown(stage.place.file)}:{stage.place.line}"
        built_in = {**dict(_options(StagePlan(stage.name, stage.kind, stage.handler))), **_limits(EdgePlan("", "", ""))}
        set_for_it = chosen.get(stage.name, {})
        edges = plan.edges_into(stage.name)
        for option, value in {**dict(_options(stage)), **_limits(edges[-1])}.items():
            in_code = "built-in" if built_in.get(option) == value else here
            origin = set_for_it[option].origin if option in set_for_it else in_code
            if value or option in set_for_it:
                yield Setting(f"{stage.name}.{option}", value or "none", origin)


def _options(stage: StagePlan) -> Iterator[tuple[str, str]]:
    """The options of a stage, named as they are set; "" for one that it does not have."""
    from flowq.delivery.policy import AckMode
    from flowq.graph.render.labels import key_name

    retry, rate, batch, keep = stage.retry, stage.rate, stage.batch, stage.keep
    yield "concurrency", str(stage.concurrency)
    yield "timeout", f"{stage.timeout_seconds:g}s" if stage.timeout_seconds else ""
    yield "retry.attempts", str(retry.attempts)
    yield "retry.base", f"{retry.backoff.base_seconds:g}s"
    yield "retry.max", f"{retry.backoff.max_seconds:g}s"
    yield "retry.jitter", "" if retry.backoff.full_jitter else "false"
    if rate:
        yield "rate.n", f"{rate.n:g}"
        yield "rate.per", f"{rate.per:g}s"
        yield "rate.by", key_name(rate.by) if rate.by else ""
        yield "rate.burst", str(rate.burst) if rate.burst > 1 else ""
        yield "rate.concurrency", str(rate.concurrency or "")
        yield "rate.adaptive", "true" if rate.adaptive else ""
        for key, own in rate.keys.items():
            yield f"rate {key}", f"{own.n:g} in {own.per:g}s"
    if batch:
        yield "batch", str(batch.size)
        yield "linger", f"{batch.linger_seconds:g}s"
        yield "batch_bytes", f"{batch.max_bytes:,}" if batch.max_bytes else ""
    yield "dedup", key_name(stage.dedup.by) if stage.dedup else ""
    yield "ack", stage.ack if stage.ack is not AckMode.AFTER else ""
    yield "max_bytes", f"{stage.max_bytes:,}"
    yield "compress", f"above {stage.compress_above:,} bytes" if stage.compress_above else ""
    yield "claim_above", f"{stage.claim_above:,}" if stage.claim_above else ""
    yield "keep", (f"{keep.milliseconds / 1000:g}s" if keep.milliseconds else f"{keep.count:,}") if keep else ""


def _limits(edge: EdgePlan) -> dict[str, str]:
    """What an edge into a stage holds at most: one option of the stage sets it for all of them."""
    limits = {"maxsize": edge.maxsize, "maxsize_bytes": edge.maxsize_bytes}
    return {option: f"{n:,}" if n else "" for option, n in limits.items()}


def _print_table(found: list[Setting], *, origin: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from flowq.cli.views.table import console_for

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
