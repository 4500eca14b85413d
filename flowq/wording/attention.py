"""What holds a pipeline up, in at most four lines, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowq.broker.inspection.causes import CauseKind
from flowq.broker.inspection.overview import Overview, StageOverview
from flowq.printable import printable
from flowq.wording.cause_words import STATES, hold_words
from flowq.wording.quantities import counted, rate_words
from flowq.wording.shard_words import hot_words, lost_words, missing_words, unserved_words

_MOST_LINES = 4
NO_STAGE = _INCOMPLETE, _LOST, _NOT_SERVED, _HOT = "Incomplete:", "Lost:", "Not served:", "Hot:"
"""Titles of lines about shards."""


def bottleneck_words(stage: StageOverview) -> str:
    """How far the bottleneck is behind."""
    rate = stage.throughput.per_second
    return f"{stage.balance.waiting:,} waiting {f'at {rate_words(rate)}' if rate else 'and none is being settled'}"


@dataclass(frozen=True, slots=True)
class Attention:
    """One line: `title` names what it is about, and `text` continues the sentence. `state` names its colour and icon.

    stage: the stage that it concerns, or the first of several; "" for the whole pipeline.
    """

    state: str
    title: str
    text: str
    stage: str = ""


def attention(overview: Overview) -> list[Attention]:
    """What holds the pipeline up. Kinds of trouble that would take too many lines share one."""
    lines = [
        (list(_shards(overview)), "about shards"),
        (list(_bottleneck(overview)), ""),
        (list(_held_back(overview)), "held back"),
        (list(_without_worker(overview)), ""),
        (list(_paused(overview)), "paused"),
        (list(_on_hold(overview)), "on hold"),
        (list(_dead(overview)), ""),
    ]
    while sum(len(group) for group, _ in lines) > _MOST_LINES:
        longest = max(range(len(lines)), key=lambda at: len(lines[at][0]))
        group, together = lines[longest]
        if len(group) == 1:  # all of them are
            break
        lines[longest] = [_in_one(group, together)], ""
    return [line for group, _ in lines for line in group][:_MOST_LINES]


def _in_one(lines: Sequence[Attention], together: str) -> Attention:
    """Several lines of one kind as one: the first of them, and how many more there are."""
    first = lines[0]
    return Attention(first.state, first.title, f"{first.text}; {len(lines) - 1:,} more {together}", first.stage)


def _shards(overview: Overview) -> Iterator[Attention]:
    if (shards := overview.shards) is None:
        return
    for words in missing_words(shards):
        yield Attention("dead", _INCOMPLETE, words)
    for words in lost_words(shards):
        yield Attention("dead", _LOST, words)
    if words := unserved_words(shards):
        yield Attention(STATES[CauseKind.NO_WORKER], _NOT_SERVED, words)
    if words := hot_words(shards):
        yield Attention("busy", _HOT, words)


def _bottleneck(overview: Overview) -> Iterator[Attention]:
    if (stage := overview.bottleneck) is not None:
        yield Attention("busy", f"{stage} is the bottleneck:", bottleneck_words(overview.stages[stage]), stage)


def _held_back(overview: Overview) -> Iterator[Attention]:
    for stage in _of_kind(overview, CauseKind.HELD_BACK):
        by = overview.causes[stage].by
        text = f"is held back by {by}, which has {overview.stages[by].balance.outstanding:,} left"
        yield Attention(STATES[CauseKind.HELD_BACK], stage, text, stage)


def _without_worker(overview: Overview) -> Iterator[Attention]:
    if alone := _of_kind(overview, CauseKind.NO_WORKER):
        state, left = STATES[CauseKind.NO_WORKER], overview.snapshot.outstanding
        if not overview.workers:
            yield Attention(state, "No worker is running:", f"{counted(left, 'message')} left", alone[0])
        else:
            verb = "has" if len(alone) == 1 else "have"
            waiting = sum(overview.stages[stage].balance.waiting for stage in alone)
            yield Attention(state, ", ".join(alone), f"{verb} no worker; {waiting:,} waiting", alone[0])


def _paused(overview: Overview) -> Iterator[Attention]:
    if overview.state == "paused":
        yield Attention("paused", overview.plan.name, "is paused")
        return
    for stage in overview.snapshot.paused:
        if stage in overview.stages:
            yield Attention("paused", stage, f"is paused; {overview.stages[stage].balance.waiting:,} waiting", stage)


def _on_hold(overview: Overview) -> Iterator[Attention]:
    for held in sorted(overview.held, key=lambda held: held.seconds_left):
        text = hold_words(held)
        yield Attention(STATES[CauseKind.ON_HOLD], printable(held.key) or held.stage, text, held.stage)


def _dead(overview: Overview) -> Iterator[Attention]:
    dead = {stage: view.dead_letters for stage, view in overview.stages.items() if view.dead_letters}
    if dead:
        stage = max(dead, key=dead.__getitem__)
        yield Attention("dead", counted(sum(dead.values()), "dead letter"), f"most in {stage}", stage)


def _of_kind(overview: Overview, kind: CauseKind) -> list[str]:
    return [stage for stage, cause in overview.causes.items() if cause.kind is kind]
