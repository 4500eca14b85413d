"""What several shards say of one stage, edge or worker, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TypeVar

from flowq.broker.inspection.edge_overview import EdgeOverview
from flowq.broker.inspection.merging.error_kinds import merged_by_kind
from flowq.broker.inspection.retried_errors import RetriedError
from flowq.broker.inspection.throughput import Throughput, quantile
from flowq.broker.inspection.throughput_records import PERIOD_MS
from flowq.broker.inspection.worker_overview import WorkerOverview

Number = TypeVar("Number", int, float)
Level = tuple[int, Mapping[str, int]]
"""A moment in ms, and how many messages each edge held then."""


def merged_throughput(seen: Sequence[Throughput]) -> Throughput:
    """The sum of the speeds, and the quantiles of all calls together. A shard without a speed adds none."""
    speeds = [each.per_second for each in seen if each.per_second is not None]
    durations = Counter[int]()
    for each in seen:
        durations.update(each.durations)
    history = zip_longest(*(reversed(each.history) for each in seen), fillvalue=0.0)  # the latest of all are last
    return Throughput(
        sum(speeds) if speeds else None,
        quantile(durations, 0.5),
        quantile(durations, 0.95),
        history=tuple(sum(each) for each in history)[::-1],
        durations={**durations},
    )


def merged_edge(seen: Sequence[EdgeOverview], names: Mapping[str, str]) -> EdgeOverview:
    """One edge in all shards. `names` has the name of the process behind each worker."""
    held, rates = Counter[str](), [each.rate for each in seen if each.rate is not None]
    for each in seen:
        for worker, n in each.held.items():
            held[names.get(worker, worker)] += n
    return EdgeOverview(
        waiting=sum(each.waiting for each in seen),
        delayed=sum(each.delayed for each in seen),
        running=sum(each.running for each in seen),
        outstanding=sum(each.outstanding for each in seen),
        in_total=sum(each.in_total for each in seen),
        duplicates=sum(each.duplicates for each in seen),
        rate=sum(rates) if rates else None,
        waiting_since_ms=min(
            (each.waiting_since_ms for each in seen if each.waiting_since_ms is not None), default=None
        ),
        oldest_seconds=most(each.oldest_seconds for each in seen),
        last_due_ms=most(each.last_due_ms for each in seen),
        memory_bytes=sum(each.memory_bytes for each in seen),
        maxsize=seen[0].maxsize,
        maxsize_bytes=seen[0].maxsize_bytes,
        held={**held},
    )


def merged_errors(seen: Iterable[Mapping[str, Sequence[RetriedError]]]) -> dict[str, Sequence[RetriedError]]:
    """Why messages are tried again, by stage: the attempt that is due next is the first of any shard."""
    merged = merged_by_kind(seen, _both)
    return {
        stage: sorted(errors, key=lambda each: (each.delayed, each.retries), reverse=True)
        for stage, errors in merged.items()
    }


def _both(one: RetriedError, other: RetriedError) -> RetriedError:
    delayed = [each for each in (one, other) if each.delayed] or [one]
    waiting = [each for each in delayed if each.next_try_seconds is not None]
    first = min(waiting, key=lambda each: each.next_try_seconds or 0.0) if waiting else delayed[0]
    return replace(first, retries=one.retries + other.retries, delayed=one.delayed + other.delayed)


def merged_workers(seen: Iterable[WorkerOverview], names: Mapping[str, str]) -> dict[str, WorkerOverview]:
    """The processes, by name. The slots of one are for all of its shards together."""
    found: dict[str, WorkerOverview] = {}
    for worker in seen:
        name = names.get(worker.name, worker.name)
        found[name] = _one_process(found[name], worker) if name in found else replace(worker, name=name)
    return dict(sorted(found.items()))


def _one_process(one: WorkerOverview, other: WorkerOverview) -> WorkerOverview:
    slots = {stage: max(one.slots.get(stage, 0), n) for stage, n in other.slots.items()}
    told = [each.in_handler for each in (one, other) if each.in_handler is not None or each.running]
    known = [each for each in told if each is not None]
    return replace(
        one,
        stages=tuple(dict.fromkeys((*one.stages, *other.stages))),
        started_ms=least((one.started_ms, other.started_ms)),
        uptime_seconds=max(
            (each for each in (one.uptime_seconds, other.uptime_seconds) if each is not None), default=None
        ),
        slots={**one.slots, **slots},
        running={**(Counter(one.running) + Counter(other.running))},
        in_handler={**sum(map(Counter, known), Counter[str]())} if known and len(known) == len(told) else None,
        lease_left_seconds=least((one.lease_left_seconds, other.lease_left_seconds)),
        silent_seconds=max(one.silent_seconds, other.silent_seconds),
        shards=(*one.shards, *other.shards),
    )


def merged_levels(seen: Sequence[Sequence[Level]]) -> list[Level]:
    """How many messages the edges held in all shards, period by period, since all of them have been counted.

    A shard without a worker is not counted: its last level counts on.
    """
    by_period = [{ms // PERIOD_MS: (ms, level) for ms, level in levels} for levels in seen if levels]
    latest: dict[int, Mapping[str, int]] = {}
    found: list[Level] = []
    for period in sorted({period for levels in by_period for period in levels}):
        at_ms = 0
        for number, levels in enumerate(by_period):
            if period in levels:
                ms, latest[number] = levels[period]
                at_ms = max(at_ms, ms)
        if len(latest) == len(by_period):
            total = Counter[str]()
            for level in latest.values():
                total.update(level)
            found.append((at_ms, {**total}))
    return found


def least(known: Iterable[Number | None]) -> Number | None:
    """The least of those that are known."""
    return min((each for each in known if each is not None), default=None)


def most(known: Iterable[Number | None]) -> Number | None:
    """The greatest of those that are known."""
    return max((each for each in known if each is not None), default=None)
