"""What `flowq run` says in words: its first line, a line of progress, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from flowq.broker.records import WHOLE, FailureCount, Snapshot
from flowq.broker.runs import StageBalance
from flowq.broker.shards.every_shard import shards_text
from flowq.cli.framework.invocation import as_typed
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan, type_name
from flowq.graph.kinds import Kind
from flowq.printable import printable
from flowq.settings.project import MEMORY
from flowq.wording.quantities import counted, rate_words

if TYPE_CHECKING:
    from flowq.dead_letters.source_rejects import SourceRejects
    from flowq.runtime.run import Summary


@dataclass(frozen=True, slots=True)
class RunAbout:
    """What is known of a run before it starts.

    `stages` and `shards` empty mean all of them; 0 `workers` is this process; `others` are the workers that run
    already, and `failures` the failed attempts that were counted already.
    """

    pipeline: str
    run_id: str
    address: str
    stages: tuple[str, ...]
    shards: tuple[int, ...]
    drains: bool
    workers: int
    resumed: bool
    others: int
    version: str
    failures: Mapping[str, Sequence[FailureCount]] = field(default_factory=dict[str, Sequence[FailureCount]])

    @property
    def stays(self) -> bool:
        """Whether what is left at the end can be inspected and processed later."""
        return self.address != MEMORY


def first_lines(about: RunAbout, plan: Plan, width: int) -> list[Text]:
    """Which pipeline runs, where, and when it will end: in one line where it fits, else in two."""
    what = Text.assemble("flowq ", about.version, "  ", (about.pipeline, "bold"))
    if about.run_id:
        what.append(f"  run {about.run_id}", "dim")
    what.append(f"  {about.address}", "dim")
    n = len(about.stages) or len(plan.stages)
    stages = ", ".join(about.stages) if about.stages else f"all {n} stages" if n > 1 else "1 stage"
    parts = [f"{stages} of {shards_text(about.shards)} only" if about.shards else stages]
    if about.workers > 1:
        parts.append(counted(about.workers, "worker"))
    if about.others:
        parts.append(f"joins {counted(about.others, 'worker')}")
    elif about.resumed:
        parts.append("resumes where it stopped")
    parts.append("exits when drained (--forever to stay)" if about.drains else "runs until stopped (--drain to exit)")
    how = Text(", ".join(parts))
    together = Text.assemble(what, "  ", how)
    return [together] if together.cell_len <= width else [what, how]


def command_to_finish(plan: Plan, snapshot: Snapshot) -> str:
    """What runs all that waits in a pipeline: with its sources only if they have not finished."""
    sources = ",".join(source.name for source in plan.sources)
    if snapshot.open_sources or not sources:
        return as_typed(f"flowq run {plan.name}" + ("" if sources else " --drain"))
    return as_typed(f"flowq run {plan.name} --drain -x {sources}")


def phase(snapshot: Snapshot, *, is_stopping: bool = False) -> str:
    """What a run is doing, in a word. Without workers it has none yet, or, when it stops, no longer."""
    if is_stopping:
        return "stopping" if snapshot.outstanding or snapshot.open_sources else "drained"
    if WHOLE in snapshot.paused:
        return "paused"
    if not snapshot.workers:
        return "starting"
    if snapshot.open_sources:
        return "reading"
    return "working" if snapshot.outstanding else "drained"


def pause_words(plan: Plan, snapshot: Snapshot) -> str:
    """What is paused and how to resume it; empty if nothing is."""
    stages = [stage.name for stage in plan.stages if stage.name in snapshot.paused]
    if WHOLE in snapshot.paused:
        return as_typed(f"all of {plan.name} is paused  (flowq resume {plan.name})")
    if not stages:
        return ""
    what = f"{plan.name}.{stages[0]}" if len(stages) == 1 else plan.name
    return as_typed(f"{', '.join(stages)} {'is' if len(stages) == 1 else 'are'} paused  (flowq resume {what})")


def orphan_words(plan: Plan, snapshot: Snapshot) -> str:
    """What is left on edges and stages that this version no longer has, and what helps; empty if nothing is."""
    edges = {edge: state.outstanding for edge, state in snapshot.orphans.items() if state.outstanding}
    parts = [f"{counted(n, 'message')} on {edge}" for edge, n in edges.items()]
    parts += [f"{counted(n, 'dead letter')} of {stage}" for stage, n in snapshot.orphan_letters.items() if n]
    if not parts:
        return ""
    return as_typed(f"no longer in the code: {', '.join(parts)}  (flowq plan {plan.name} shows where they can go)")


def progress_line(
    plan: Plan,
    snapshot: Snapshot,
    state: str,
    balances: Mapping[str, StageBalance],
    rates: Mapping[str, float],
    passed: float,
) -> str:
    """Everything about a pipeline in one line, for a log."""
    parts = [f"{duration_text(int(passed))} {state}"]
    for stage in plan.consumers:
        balance = balances[stage.name]
        rate = f" ({rate_words(rates[stage.name])})" if rates.get(stage.name) else ""
        parts.append(f"{stage.name} {settled(balance):,} of {balance.entered:,}{rate}")
    left = [
        f"{n:,} {where}"
        for where in ("waiting", "delayed", "running")
        if (n := sum(getattr(balance, where) for balance in balances.values()))
    ]
    if snapshot.in_transit:
        left.append(f"{snapshot.in_transit:,} in transit")
    parts.append(f"left {snapshot.outstanding:,}" + (f": {', '.join(left)}" if left else ""))
    parts.append(f"dead {sum(balance.dead for balance in balances.values()):,}")
    return "  ".join(parts)


def feedback_lines(plan: Plan, snapshot: Snapshot) -> list[Text]:
    """What has gone back along each feedback edge, and how much of it was known already."""
    lines: list[Text] = []
    for edge in plan.edges:
        new = snapshot.counters.get(f"in:{edge.name}", 0)
        known = snapshot.counters.get(f"duplicates:{edge.name}", 0)
        if not edge.feedback or not new + known:
            continue
        types = " or ".join(type_name(type_) for type_ in edge.types)
        sent = f"{new + known:,} {types}".rstrip()
        if known:
            sent += f" = {new:,} new + {known:,} seen before"
        lines.append(Text(f" ↺ {edge.origin}→{edge.target}  {sent}", "dim", no_wrap=True, overflow="ellipsis"))
    return lines


def end_lines(
    plan: Plan, summary: Summary, *, dead_before: int, stopped: bool, width: int, stays: bool = True
) -> list[Text]:
    """How a run ended: one headline, one balance for each stage, the first of what sources had to reject.

    Last comes what to do next with what `stays` behind.
    """
    stages = {stage.name: summary.stages[stage.name] for stage in plan.consumers}
    left = sum(balance.outstanding for balance in stages.values()) + summary.in_transit
    how = "drained in" if summary.drained else "stopped after" if stopped else "ended after"
    headline = Text(f"{how} {duration_text(summary.seconds)}: ", "bold")
    headline.append(f"{stored(plan, summary.stages):,} stored, ")
    headline.append(f"{summary.dead:,} dead", "bold red" if summary.dead else "")
    if summary.dead and dead_before:
        headline.append(f" ({max(0, summary.dead - dead_before):,} new)")
    if left:
        transit = f", {summary.in_transit:,} of them in transit between shards" if summary.in_transit else ""
        headline.append(f", {left:,} left{transit}", "yellow")
    lines = [headline, *balance_lines(stages, width)]
    if summary.rejects is not None and summary.rejects.n:
        lines += reject_lines(summary.rejects, width)
    if not stays:
        return lines
    if summary.dead:
        lines.append(Text.assemble(("dead letters  ", "dim"), as_typed(f"flowq dlq ls {summary.pipeline}")))
    if not summary.drained:
        lines.append(Text.assemble(("to resume     ", "dim"), "run the same command again"))
    return lines


def reject_lines(rejects: SourceRejects, width: int) -> list[Text]:
    """How much sources had to reject, and the first of it, with its place and the reason."""
    n = f"{'more than ' if rejects.is_more else ''}{counted(rejects.n, 'value')}"
    lines = [Text.assemble(("rejected      ", "dim"), f"{n} from sources", (", first:", "dim"))]
    for reject in rejects.first:
        for text, style in (
            (f"  {reject.read_at}", ""),
            (f"      {reject.error.removeprefix('DecodeError: ')}", "red"),
        ):
            line = Text(printable(text), style)
            line.truncate(width, overflow="ellipsis")
            lines.append(line)
    return lines


def balance_lines(stages: Mapping[str, StageBalance], width: int) -> list[Text]:
    """in = ok + filtered + dead + left, a line for each stage, the numbers below each other."""
    name_width = max((len(name) for name in stages), default=0)
    balances = list(stages.values())
    widths = {field: _width(getattr(balance, field) for balance in balances) for field in _SUMMANDS}

    def term(balance: StageBalance, field: str) -> str:
        return f"{getattr(balance, field):>{widths[field]},}"

    lines: list[Text] = []
    for name, balance in stages.items():
        line = Text(f"  {name:<{name_width}}  in {term(balance, 'entered')} = ok {term(balance, 'ok')}")
        line.append(f" + filtered {term(balance, 'filtered')} + ")
        line.append(f"dead {term(balance, 'dead')}", "red" if balance.dead else "")
        if balance.purged:
            line.append(f" + purged {balance.purged:,}", "red")
        line.append(" + ")
        line.append(f"left {term(balance, 'outstanding')}", "yellow" if balance.outstanding else "")
        asides = [f"{balance.retries:,} retries"] if balance.retries else []
        asides += [f"{balance.duplicates:,} seen before"] if balance.duplicates else []
        if not balance.adds_up:
            line.append("   does not add up", "bold red")
        lines.append(line)
        if asides:
            aside = Text(", ".join(asides), "dim")
            if line.cell_len + 3 + aside.cell_len <= width:
                line.append("   ").append(aside)
            else:
                lines.append(Text(" " * (name_width + 4)).append(aside))
    return lines


_SUMMANDS = ("entered", "ok", "filtered", "dead", "outstanding")


def _width(numbers: Iterable[int]) -> int:
    return max(len(f"{n:,}") for n in numbers)


def stored(plan: Plan, stages: Mapping[str, StageBalance]) -> int:
    """The messages that sinks have handled successfully."""
    sinks: Sequence[str] = [stage.name for stage in plan.stages if stage.kind is Kind.SINK]
    return sum(stages[name].ok for name in sinks)


def settled(balance: StageBalance) -> int:
    """The messages that a stage has finished with, whatever the outcome."""
    return balance.ok + balance.filtered + balance.dead + balance.purged
