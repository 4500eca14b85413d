"""The worker process: reads from standard input what to run, and runs it until stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from flowq.broker.embedded.own_servers import own_servers
from flowq.broker.keys import Keys
from flowq.broker.open import claim_store_for, dialer_for
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.cli.framework.error_screen import report
from flowq.cli.framework.loading import load_from
from flowq.cli.framework.logs import LogSetup
from flowq.cli.framework.modules import Module
from flowq.cli.run.instructions import Instructions
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.child_setup import ChildSetup
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.handlers.streams import forgiving_stdout, prepare_streams
from flowq.runtime.handlers.telemetry import Telemetry
from flowq.runtime.process.ending import StopSignals, leave
from flowq.runtime.process.fast_loop import fast_loop_factory
from flowq.runtime.process.supervisor import EXIT_REPORTED, KILL_MARGIN_SECONDS
from flowq.runtime.process.worker import work


def main() -> None:
    """Entry point of `python -m flowq.cli.run.worker_process`."""
    prepare_streams()
    sys.stdout = forgiving_stdout()
    supervised_by = sys.stdin.fileno()
    job = Instructions(**json.loads(sys.stdin.buffer.readline()))
    if job.columns is not None:
        print_as_on_a_terminal(job.columns)
    sys.stdin = None if job.stdin_fd is None else os.fdopen(job.stdin_fd)
    log_setup = LogSetup(job.log_format, job.pipeline, job.log_levels)
    log_setup.begin()
    telemetry = Telemetry(job.pipeline, traces=job.traces)
    try:
        plan = plan_in(job)
        log_setup.after_import()
        runner = asyncio.Runner(loop_factory=fast_loop_factory())
        try:
            runner.run(_work(job, plan, supervised_by, telemetry.observer, log_setup))
        finally:
            telemetry.finish()
    except KeyboardInterrupt:
        leave(130)
    except BaseException as error:  # noqa: BLE001  (the border of the process: whatever it is, the user must see it)
        report(error, debug=bool(os.environ.get("FLOWQ_DEBUG")))
        leave(EXIT_REPORTED)
    leave(0)


def plan_in(job: Instructions) -> Plan:
    """The plan of the pipeline that a job names, from the code as it is now. Raises as `load_from` does."""
    module = Module(job.module, Path(job.root), Path(job.project), attribute=job.attribute)
    loaded = load_from(module, job.pipeline)
    if not job.tuning and job.shards == loaded.pipeline.plan.shards:
        return loaded.pipeline.plan
    return loaded.pipeline.tuned(job.tuning, shards=job.shards).plan


def print_as_on_a_terminal(columns: int) -> None:
    """The supervisor passes each line on to one. Libraries that print look for these variables too."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ["COLUMNS"] = str(columns)
    if not os.environ.get("NO_COLOR"):
        os.environ.setdefault("FORCE_COLOR", "1")


async def _work(
    job: Instructions, plan: Plan, supervised_by: int, observer: Observer | None, child_setup: ChildSetup
) -> None:
    stop = StopSignals()
    stop.install()
    stop.follow(supervised_by, patience_seconds=job.grace_seconds + KILL_MARGIN_SECONDS)
    if job.own_data is not None:  # a hold of our own: if the supervisor is killed, messages can still be handed back
        await own_servers(Path(job.own_data), job.n_own_servers)
    keys = Keys(job.namespace, job.pipeline)
    claims = claim_store_for(keys, job.claim_store)
    broker = Broker(dialer_for(job.redis, job.pipeline), keys, durability=job.durability, claims=claims)
    with_shards(broker, plan.shards)
    broker.run_id = job.run_id
    await work(
        plan,
        broker,
        job.options,
        sources=job.sources,
        quarantined=job.quarantined,
        only_sources=job.only_sources,
        stop=stop,
        observer=observer,
        child_setup=child_setup,
    )
    await close_shards(broker)


if __name__ == "__main__":
    main()
