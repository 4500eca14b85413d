"""All workloads, in the order in which they are reported."""

from __future__ import annotations

from benchmarks.figures import Workload
from benchmarks.workloads import footprint, growth, latency, neighbours, publishing, throughput

WORKLOADS: tuple[Workload, ...] = (
    *throughput.WORKLOADS,
    *neighbours.WORKLOADS,
    *publishing.WORKLOADS,
    *latency.WORKLOADS,
    *growth.WORKLOADS,
    *footprint.WORKLOADS,
)
