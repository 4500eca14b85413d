"""Starts a run in Redis, for the command line and for programs alike."""

from __future__ import annotations

from flowq.broker.claims import ClaimCheck
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.shards.layout import agree_on_layout
from flowq.graph.compilation.plan import Plan
from flowq.runtime.death_records import record_lost_neighbours
from flowq.runtime.run import Run, RunOptions
from flowq.runtime.run_of_shards import RunOfShards


async def start_run(plan: Plan, broker: Broker, options: RunOptions, *, fresh: bool) -> tuple[Run, list[str]]:
    """Start a run, resume an interrupted one, or join the current one without sources of its own.

    `fresh` starts over and forgets cursors and messages. Returns the run and the names of the sources that must run.
    Raises WrongLayout, NoClaimStore and WrongClaimStore.
    """
    await agree_on_layout(broker, plan.shards)
    await ClaimCheck.check_store(broker, plan, fresh=fresh)
    recorded = await RecordedPlan(broker).record(plan)
    await record_lost_neighbours(broker)
    run = Run(plan, broker) if plan.shards == 1 else RunOfShards(plan, broker)
    sources: list[str] = []
    if fresh or any(options.runs(source.name) for source in plan.sources):
        sources = await run.begin(options, fresh=fresh, recorded=recorded)
    else:
        run.join(await run.snapshot())
    for each in broker.shards:
        await Runs(each).take_over_seen([stage.name for stage in plan.consumers])
    return run, sources
