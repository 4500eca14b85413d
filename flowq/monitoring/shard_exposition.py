"""Metrics of the shards of pipelines that have several. Only this file knows their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from flowq.monitoring.reading import Reading

_SHARD = ["pipeline", "shard"]
_CHANNEL = ["pipeline", "from", "to"]


def shard_families(readings: Sequence[Reading]) -> Iterator[Metric]:
    """A shard that does not answer has `flowq_shard_up` 0 and no other sample: what it holds is unknown."""
    up = GaugeMetricFamily("flowq_shard_up", "Whether a shard of the pipeline could be read from Redis.", labels=_SHARD)
    outstanding = GaugeMetricFamily(
        "flowq_shard_outstanding", "Messages that wait, are delayed or run in a shard.", labels=_SHARD
    )
    in_transit = GaugeMetricFamily("flowq_in_transit", "Messages on their way from a shard to others.", labels=_SHARD)
    lost = CounterMetricFamily(
        "flowq_lost", "Messages from another shard that Redis had confirmed and has forgotten.", labels=_CHANNEL
    )
    for seen in readings:
        if (shards := seen.shards) is None:
            continue
        name = seen.plan.name
        for shard, snapshot in shards.by_shard.items():
            up.add_metric([name, str(shard)], 1)
            outstanding.add_metric([name, str(shard)], snapshot.outstanding)
            in_transit.add_metric([name, str(shard)], shards.leaving(shard))
        for silent in shards.silent:
            up.add_metric([name, str(silent.shard)], 0)
        for (source, target), n in shards.lost.items():
            lost.add_metric([name, str(source), str(target)], n)
    yield from (up, outstanding, in_transit, lost)
