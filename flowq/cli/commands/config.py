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
    from flowq.graph.compilation.plan import Plan
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
        **({"servers": str(settings.servers)} if settings.servers > 1 else {}),
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
    for name, value in of_dashboard(settings).items():
        yield Setting(f"dashboard.{name}", value, settings.origin[f"dashboard_{name}"])


def of_dashboard(settings: Settings) -> dict[str, str]:
    """The settings of the web page."""
    page = settings.dashboard
    return {
        "listen": page.listen,
        "allow_hosts": ", ".join(page.allow_hosts) or "none",
        "allow_actions": str(page.allow_actions).lower(),
        "show_bodies": "on this machine" if page.show_bodies is None else str(page.show_bodies).lower(),
        "show": ", ".join(page.show) or "none",
        "log_url": page.log_url or "none",
        "history": f"{page.history_seconds:g}s",
    }


def of_pipeline(plan: Plan, settings: Settings) -> Iterator[Setting]:
    """The number of shards of a pipeline, where it has several, and the options of each stage."""
    from flowq.wording.stage_options import options_of

    if (shards := settings.of_shards(plan.name)) or plan.shards > 1:
        yield Setting("shards", str(plan.shards), shards.origin if shards else "Pipeline(...)")
    for stage in plan.consumers:
        here = f"@stage {shown(stage.place.file)}:{stage.place.line}"
        for option in options_of(plan, stage, settings, here=here):
            yield Setting(f"{stage.name}.{option.name}", option.value or "none", option.origin)


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
