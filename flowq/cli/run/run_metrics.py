"""What `flowq run --metrics` serves beside the run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Collection
from importlib.util import find_spec
from typing import Protocol

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.monitoring.address import Address


class Workers(Protocol):
    """What knows the process ids of the workers."""

    @property
    def pids(self) -> Collection[int]: ...


def require_prometheus_client(flag: str) -> None:
    """Raise UsageError where the extra is not installed."""
    if find_spec("prometheus_client") is None:
        raise UsageError(f"{flag} needs prometheus-client", hint='pip install "flowq-streams[metrics]"')


@contextlib.asynccontextmanager
async def serving_metrics(address: Address, plan: Plan, broker: Broker, workers: Workers) -> AsyncGenerator[str]:
    """Serve the pipeline and the health of these workers; yields a line that says where."""
    require_prometheus_client("--metrics")
    from flowq.monitoring.http_server import serving
    from flowq.monitoring.watched import WatchedRun

    # Connections of its own: a scrape must not keep anything else waiting.
    own = broker if broker.dialer.is_private else with_shards(Broker(broker.dialer, broker.keys), plan.shards)
    try:
        async with serving(address, WatchedRun(plan, own, lambda: workers.pids)) as at:
            yield f"metrics at {at.url}/metrics"
    finally:
        if own is not broker:
            await close_shards(own)
