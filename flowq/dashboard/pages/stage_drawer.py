"""What the drawer of one stage shows beyond its slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowq.broker.inspection.edge_stats import RunningMessage
from flowq.broker.inspection.merging.readings import slowest_of_all_shards
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.retried_errors import RetriedError
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.picture.histogram import Histogram, histogram
from flowq.dead_letters.letter_kinds import LetterKind
from flowq.errors import BrokerError
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.compilation.typecheck import type_names
from flowq.graph.render.labels import key_name
from flowq.printable import printable
from flowq.settings import Settings
from flowq.wording.advice import advice
from flowq.wording.retry_words import retry_words
from flowq.wording.shell_commands import shell_command
from flowq.wording.stage_options import StageOption, options_of

_MOST_SLOW, _MOST_KINDS = 5, 5


@dataclass(frozen=True, slots=True)
class StageDrawer:
    """One stage in detail, as it was when the page was made.

    place: where it is declared. because: what its cause means. paced_by: the field of its pacing keys, "" for none.
    accepts: the types of its messages.
    slowest: its longest running messages; None if Redis does not report them. tries: why its messages are tried
    again, with how often and when next. kinds: of its dead letters, the most frequent. commands: what to type for what
    a page without actions does not do.
    """

    name: str
    is_source: bool
    place: str
    because: str
    paced_by: str
    accepts: str
    histogram: Histogram | None
    slowest: Sequence[RunningMessage] | None
    tries: Sequence[tuple[RetriedError, str]]
    kinds: Sequence[LetterKind]
    options: Sequence[StageOption]
    workers: Sequence[WorkerOverview]
    commands: Sequence[str]


async def stage_drawer(watch: Watch, look: Look, stage: StagePlan, settings: Settings) -> StageDrawer:
    """Read what a look does not have, and combine both."""
    overview, speed = look.overview, look.overview.stages[stage.name].throughput
    return StageDrawer(
        name=stage.name,
        is_source=stage.is_source,
        place=_place(stage, settings.root),
        because=advice(overview, stage),
        paced_by=key_name(stage.rate.by) if stage.rate and stage.rate.by else "",
        accepts=type_names(stage.accepted),
        histogram=histogram(speed.durations, speed.p50_seconds, speed.p95_seconds),
        slowest=await _slowest(watch, stage),
        tries=[(error, retry_words(error)) for error in overview.stages[stage.name].errors],
        kinds=await _kinds(watch, stage) if overview.stages[stage.name].dead_letters else (),
        options=() if stage.is_source else tuple(options_of(watch.plan, stage, settings)),
        workers=[worker for worker in overview.workers.values() if stage.name in worker.stages],
        commands=_commands(overview, stage),
    )


async def _slowest(watch: Watch, stage: StagePlan) -> Sequence[RunningMessage] | None:
    try:
        return await slowest_of_all_shards(watch.broker, stage.in_edges, limit=_MOST_SLOW) if stage.in_edges else ()
    except BrokerError:
        return None


async def _kinds(watch: Watch, stage: StagePlan) -> Sequence[LetterKind]:
    try:
        return (await watch.letters.index()).kinds(stage=stage.name)[:_MOST_KINDS]
    except BrokerError:
        return ()


def _place(stage: StagePlan, root: Path) -> str:
    file = Path(stage.place.file)
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    return printable(f"{shown}:{stage.place.line}")


def _commands(overview: Overview, stage: StagePlan) -> list[str]:
    target = f"{overview.plan.name}.{stage.name}"
    verb = "resume" if stage.name in overview.snapshot.paused else "pause"
    push = [] if stage.is_source else [shell_command("flowq", "push", target, "@messages.ndjson")]
    return [shell_command("flowq", verb, target), *push]
