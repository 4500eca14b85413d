"""Metrics for Prometheus, by its conventions. Only this file knows their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from flowq.broker.records import OTHER
from flowq.graph.compilation.plan import EdgePlan, StagePlan
from flowq.monitoring.reading import Reading
from flowq.monitoring.shard_exposition import shard_families
from flowq.printable import printable
from flowq.version import __version__

Value = float | None
_STAGE = ["pipeline", "stage"]
_TYPE = re.compile(r"[^\s:]+")


@dataclass(frozen=True, slots=True)
class _OfStages:
    """One number of each stage that accepts messages, or of every stage."""

    name: str
    help: str
    value: Callable[[Reading, StagePlan], Value]
    with_sources: bool = False


@dataclass(frozen=True, slots=True)
class _OfEdges:
    """One number of each edge."""

    name: str
    help: str
    value: Callable[[Reading, EdgePlan], Value]


_COUNTERS = (
    _OfStages(
        "flowq_messages_received",
        "Messages that a stage received in this run, without duplicates.",
        lambda seen, stage: seen.balances[stage.name].entered,
    ),
    _OfStages(
        "flowq_messages_emitted",
        "Messages that a stage emitted in this run, including duplicates.",
        lambda seen, stage: seen.balances[stage.name].out,
        with_sources=True,
    ),
    _OfStages(
        "flowq_duplicates",
        "Messages dropped as duplicates in this run.",
        lambda seen, stage: seen.balances[stage.name].duplicates,
    ),
)
_STAGE_GAUGES = (
    _OfStages(
        "flowq_ready_messages",
        "Messages that a worker could start now: waiting ones, and delayed ones that are due. Scale by this.",
        lambda seen, stage: seen.ready(stage.name),
    ),
    _OfStages(
        "flowq_dead_letters",
        "Stored dead letters, of all runs.",
        lambda seen, stage: seen.snapshot.dead_letters.get(stage.name, 0),
    ),
)
_EDGE_GAUGES = (
    _OfEdges(
        "flowq_waiting_messages",
        "Messages that wait for a worker.",
        lambda seen, edge: seen.snapshot.edges[edge.name].waiting,
    ),
    _OfEdges(
        "flowq_delayed_messages",
        "Messages that are not due yet: retries, rate limits, holds, and messages sent with a delay.",
        lambda seen, edge: seen.snapshot.edges[edge.name].delayed,
    ),
    _OfEdges(
        "flowq_running_messages",
        "Messages that workers have read and not settled.",
        lambda seen, edge: seen.snapshot.edges[edge.name].running,
    ),
    _OfEdges(
        "flowq_oldest_waiting_seconds",
        "Age of the oldest waiting message.",
        lambda seen, edge: seen.waiting_seconds(edge.name),
    ),
    _OfEdges(
        "flowq_edge_memory_bytes",
        "Memory in Redis that the messages of an edge occupy.",
        lambda seen, edge: seen.edge_stats[edge.name].memory_bytes,
    ),
)


def families(readings: Sequence[Reading], unreachable: Iterable[str] = ()) -> Iterator[Metric]:
    """All metrics of these pipelines; for those whose Redis did not reply, only that."""
    up = GaugeMetricFamily("flowq_up", "Whether the pipeline could be read from Redis.", labels=["pipeline"])
    for seen in readings:
        up.add_metric([seen.plan.name], 1)
    for name in unreachable:
        up.add_metric([name], 0)
    yield up
    info = GaugeMetricFamily("flowq_build_info", "The version of flowq.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    yield from _messages(readings)
    yield from shard_families(readings)
    yield from _workers(readings)
    yield _durations(readings)


def _messages(readings: Sequence[Reading]) -> Iterator[Metric]:
    settled = CounterMetricFamily(
        "flowq_messages",
        "Messages that a stage has settled in this run, by outcome.",
        labels=["pipeline", "stage", "outcome"],
    )
    for seen, stage in _stages(readings):
        balance = seen.balances[stage.name]
        for outcome, n in (("ok", balance.ok), ("filtered", balance.filtered), ("dead", balance.dead)):
            settled.add_metric([seen.plan.name, stage.name, outcome], n)
    yield settled
    yield _retries(readings)
    for declared in _COUNTERS:
        yield _filled(CounterMetricFamily(declared.name, declared.help, labels=_STAGE), declared, readings)
    for declared in _STAGE_GAUGES:
        yield _filled(GaugeMetricFamily(declared.name, declared.help, labels=_STAGE), declared, readings)
    for number in _EDGE_GAUGES:
        family = GaugeMetricFamily(number.name, number.help, labels=[*_STAGE, "edge"])
        for seen in readings:
            for edge in seen.plan.edges:
                if (value := number.value(seen, edge)) is not None:
                    family.add_metric([seen.plan.name, edge.target, edge.name], value)
        yield family


def _retries(readings: Sequence[Reading]) -> Metric:
    """The kinds of errors of a stage that are counted apart are few, and so are the types of their exceptions."""
    family = CounterMetricFamily(
        "flowq_retries",
        "Failed attempts that are retried, in this run, by the type of their error.",
        labels=[*_STAGE, "error"],
    )
    for seen, stage in _stages(readings):
        by_type: Counter[str] = Counter()
        for failed in seen.snapshot.failures.get(stage.name, ()):
            found = _TYPE.match(failed.error)
            by_type[printable(found[0]) if found and failed.kind != OTHER else OTHER] += failed.count
        by_type[OTHER] += max(0, seen.balances[stage.name].retries - by_type.total())  # of workers of earlier versions
        for error, n in sorted(by_type.items()):
            family.add_metric([seen.plan.name, stage.name, error], n)
    return family


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, declared: _OfStages, readings: Sequence[Reading]
) -> Metric:
    for seen, stage in _stages(readings, with_sources=declared.with_sources):
        if (value := declared.value(seen, stage)) is not None:
            family.add_metric([seen.plan.name, stage.name], value)
    return family


def _stages(readings: Sequence[Reading], *, with_sources: bool = False) -> Iterator[tuple[Reading, StagePlan]]:
    for seen in readings:
        for stage in seen.plan.stages if with_sources else seen.plan.consumers:
            yield seen, stage


def _workers(readings: Sequence[Reading]) -> Iterator[Metric]:
    living = GaugeMetricFamily("flowq_workers", "Live worker processes.", labels=["pipeline"])
    silent = GaugeMetricFamily(
        "flowq_worker_silent_seconds",
        "How long a worker has been trying to read from Redis without success.",
        labels=["pipeline", "worker", "host"],
    )
    for seen in readings:
        alive = [worker for worker in seen.workers if worker.has_lease]
        living.add_metric([seen.plan.name], len(alive))
        for worker in alive:
            silent.add_metric([seen.plan.name, printable(worker.worker), printable(worker.host)], worker.silent_seconds)
    yield living
    yield silent


def _durations(readings: Sequence[Reading]) -> Metric:
    """A summary over a sliding window, without sum and count, which are not recorded."""
    name = "flowq_handler_duration_seconds"
    family = Metric(name, "Durations of the handler of a stage, over the last half minute.", "summary")
    for seen, stage in _stages(readings):
        throughput = seen.throughput[stage.name]
        for quantile, value in (("0.5", throughput.p50_seconds), ("0.95", throughput.p95_seconds)):
            if value is not None:
                family.add_sample(name, {"pipeline": seen.plan.name, "stage": stage.name, "quantile": quantile}, value)
    return family
