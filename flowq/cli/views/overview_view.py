"""A pipeline at a glance as text: what `flowq status` prints, and paints with --watch. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from flowq.broker.inspection.causes import CauseKind
from flowq.broker.inspection.overview import Overview, StageOverview
from flowq.cli.framework.invocation import as_typed
from flowq.cli.views.cause_cells import ICONS, outlook_cells
from flowq.cli.views.retry_lines import error_lines
from flowq.cli.views.run_text import command_to_finish, feedback_lines, orphan_words, pause_words
from flowq.cli.views.shards_view import shard_notes, shards_table
from flowq.cli.views.table import indented, running_text, speed_cells, stage_cells, stage_table
from flowq.durations import duration_text
from flowq.graph.compilation.plan import StagePlan
from flowq.printable import printable
from flowq.wording.attention import bottleneck_words
from flowq.wording.cause_words import hold_words
from flowq.wording.death_words import death_words
from flowq.wording.headline import left_words, state_word
from flowq.wording.quantities import counted, rate_words, size, sparkline
from flowq.wording.shard_words import number_words, transit_words

ORDERS = ("pipeline", "waiting", "running", "dead", "rate", "p95")
"""What the stages can be sorted by."""

_TITLES = (
    "stage", "cause", "in", "ok", "filtered", "dead", "purged", "waiting", "delayed", "running", "retries", "dup",
    "out", "rate", "p50", "p95", "oldest", "forecast", "workers", "memory", "trend",
)  # fmt: skip
_LIVE_TITLES = tuple(title for title in _TITLES if title not in ("dup", "out"))
_NARROW_TITLES = ("stage", "cause", "ok", "dead", "waiting", "delayed", "running", "rate", "p95", "forecast", "trend")
_NARROW = 120
_TREND_CELLS = 7
_MARK = " ◀"
_MOST_ERRORS = 3  # of a stage
_MOST_HOLDS = 8


def overview_text(
    overview: Overview,
    width: int,
    *,
    speeds: Mapping[str, Sequence[float]] | None = None,
    cells: int = _TREND_CELLS,
    order: str = ORDERS[0],
    by_shard: bool = False,
) -> RenderableType:
    """All of it: a headline, a row for each stage, and what is worth knowing besides.

    Columns without any content are left out, unless a live screen gives the `speeds` of each stage, one for each of the
    `cells` of its trend: on a screen columns would appear and disappear. `by_shard`: a row for each shard as well.
    """
    stages = list(overview.plan.stages)
    if order != ORDERS[0]:
        stages.sort(key=lambda stage: -_measure(overview.stages[stage.name], order))
    rows = [row_of(overview, stage, trend=speeds[stage.name] if speeds else None) for stage in stages]
    if speeds is None:
        titles = [title for title in _TITLES if any(title in row for row in rows)]
    else:
        titles = list(_NARROW_TITLES if width < _NARROW else _LIVE_TITLES)
        for row in rows:
            row["trend"] = Text(row["trend"].plain.rjust(cells) if "trend" in row else " " * cells, "cyan")
    gap = [] if speeds is None else [Text("")]
    one = Text(f" {overview.plan.name} has one shard", "dim")
    below = [*gap, shards_table(overview.shards, width) if overview.shards else one] if by_shard else []
    stages_table = indented(stage_table(titles, rows, width - 1))
    return Group(headline(overview), *gap, stages_table, *below, *notes(overview, width))


def _measure(stage: StageOverview, order: str) -> float:
    match order:
        case "rate":
            return stage.throughput.per_second or 0
        case "p95":
            return stage.throughput.p95_seconds or 0
        case _:
            return float(getattr(stage.balance, order))


def headline(overview: Overview) -> Text:
    """The pipeline, its state, its workers, and the time left."""
    left, n = left_words(overview), len(overview.workers)
    line = Text.assemble((overview.plan.name, "bold"), f"  {state_word(overview)}", f", {left}" if left else "")
    line.append(f"  {n or 'no'} worker{'s' * (n != 1)}", "" if n else "dim")
    if (shards := overview.shards) is not None:
        line.append(f"  {number_words(shards)}", "bold red" if shards.silent else "")
        line.append(f"  {transit_words(shards)}", "" if shards.all_in_transit or shards.silent else "dim")
    if run := overview.snapshot.run.get("id"):
        line.append(f"  run {run}", "dim")
    return line


def row_of(overview: Overview, stage: StagePlan, *, trend: Sequence[float] | None = None) -> dict[str, Text]:
    """The cells of one stage by title. `trend` is what it settled per second; without one, that of the half minute."""
    view = overview.stages[stage.name]
    cells = {
        **stage_cells(stage, view.balance),
        **_speed_cells(stage, view, overview),
        **outlook_cells(overview, stage),
    }
    if view.in_handler is not None and view.in_handler < view.balance.running:
        cells["running"] = running_text(view.in_handler, view.balance.running)
    history = view.throughput.history if trend is None else trend
    if any(history):
        cells["trend"] = Text(sparkline(history, _TREND_CELLS if trend is None else len(history)), "cyan")
    if overview.bottleneck == stage.name:
        cells["stage"] = Text(stage.name + _MARK, "bold yellow")
    return cells


def _speed_cells(stage: StagePlan, view: StageOverview, overview: Overview) -> Mapping[str, Text]:
    cells: dict[str, Text] = {}
    if (rate := view.throughput.per_second) is not None and overview.workers:
        cells["rate"] = Text(rate_words(rate), "" if rate else "dim")
    if stage.is_source:
        if f"source:{stage.name}" in overview.snapshot.run and stage.name not in overview.snapshot.open_sources:
            cells["rate"] = Text("done", "dim")
        return cells
    cells |= speed_cells(view.throughput)
    if view.waiting_seconds is not None:
        cells["oldest"] = Text(duration_text(view.waiting_seconds))
    busy = view.workers - view.idle_workers
    if view.workers:
        idle = "" if busy == view.workers else " idle" if not busy else f" ({view.idle_workers} idle)"
        cells["workers"] = Text(f"{view.workers}{idle}", "" if busy else "dim")
    cells["memory"] = Text(size(view.memory_bytes), "" if view.memory_bytes >= 1000 else "dim")
    return cells


def notes(overview: Overview, width: int) -> list[Text]:
    """What does not fit into a row, each with the command that helps."""
    name = overview.plan.name
    errors = {name: stage.errors for name, stage in overview.stages.items()}
    lines = shard_notes(overview.shards) if overview.shards else []
    lines += [*error_lines(errors, width, most=_MOST_ERRORS), *feedback_lines(overview.plan, overview.snapshot)]
    if words := pause_words(overview.plan, overview.snapshot):
        lines.append(Text(f" {words}", "yellow"))
    if (stage := overview.bottleneck) is not None:
        words = bottleneck_words(overview.stages[stage])
        lines.append(Text(f"{_MARK} {stage} is the bottleneck: {words}", "yellow"))
    kept = sum(overview.snapshot.dead_letters.values())
    if kept:
        lines.append(Text.assemble((f" {counted(kept, 'dead letter')}", "red"), as_typed(f"  flowq dlq ls {name}")))
    lines += _hold_lines(overview)
    if overview.dead_workers:
        lines.append(Text(f" {death_words(overview.dead_workers, overview.now_ms)}", "red"))
    if words := orphan_words(overview.plan, overview.snapshot):
        lines.append(Text(f" {words}", "yellow"))
    if overview.state == "stopped":
        lines.append(Text(f" no worker is running  {command_to_finish(overview.plan, overview.snapshot)}"))
    return lines


def _hold_lines(overview: Overview) -> Iterator[Text]:
    for held in overview.held[:_MOST_HOLDS]:
        what = f" {held.stage} {printable(held.key)}".rstrip()
        yield Text.assemble(" ", ICONS[CauseKind.ON_HOLD], f"{what} is {hold_words(held)}")
    if (more := len(overview.held) - _MOST_HOLDS) > 0:
        yield Text(f"   {counted(more, 'other key')} on hold", "dim")
