"""What a worker process does between its start and its signal to stop."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.process.ending import StopSignals
from flowq.runtime.process.gc_tuning import tune_gc
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from flowq.runtime.waiting import first_to_end


async def work(
    plan: Plan,
    broker: Broker,
    options: RunOptions,
    *,
    sources: Sequence[str],
    quarantined: bool,
    only_sources: bool = False,
    stop: StopSignals,
    observer: Observer | None = None,
    child_setup: ChildSetup | None = None,
) -> None:
    """Run stages until told to stop; a quarantine, or sources alone, until nothing is left.

    Raises what made that impossible.
    """
    runner = Runner(
        plan, broker, options,
        sources=sources, supervised=True, quarantined=quarantined, only_sources=only_sources, observer=observer,
        child_setup=child_setup,
    )  # fmt: skip
    try:
        await runner.start()
        tune_gc()
        await first_to_end(runner.ended, stop.requested.wait())
    finally:
        await runner.stop(stop.hurry)
