"""`flowq.run`: a pipeline, or some stages of it, from a program."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.inspection.health import ServerHealth
from flowq.broker.open import open_broker
from flowq.broker.records import Snapshot
from flowq.delivery.policy import Durability
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.observation import Observer
from flowq.runtime.handlers.telemetry import require_opentelemetry
from flowq.runtime.process.gc_tuning import rarer_collections
from flowq.runtime.process.runner import Runner
from flowq.runtime.process.starting import start_run
from flowq.runtime.resources import ResourceFailed
from flowq.runtime.run import Run, RunOptions, Summary, poll_seconds
from flowq.runtime.waiting import first_to_end
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline

_CANCEL_AGAIN_SECONDS = 0.1


async def run(
    pipeline: Pipeline,
    *,
    redis: str | None = None,
    stages: Sequence[str] = (),
    drain: bool = True,
    arguments: Mapping[str, Any] | None = None,
    concurrency: Mapping[str, int] | None = None,
    namespace: str | None = None,
    durability: Durability | None = None,
    claim_store: str | Path | None = None,
    lease: float | str | None = None,
    grace: float | str | None = None,
    fresh: bool = False,
    traces: bool = False,
) -> Summary:
    """Run a pipeline, or some stages of it, in this process. Returns how the run ended.

    It resumes an interrupted run: sources that have finished are not run again. Errors of handlers are never raised:
    they end as retries and dead letters. When it is cancelled, running handlers have `grace` to finish; cancelled
    again, it hands back the rest at once. It leaves the signal handlers, logging, garbage collector and threads of the
    program as they were.

    Settings come from the same places as for the command line: an argument that is None is read from `FLOWQ_*`
    variables, or from [tool.flowq] in the pyproject.toml of the project that the current folder is in. So are the
    options of stages.

    pipeline: what to run.
    redis: the URL of the server, "embedded" for the one that flowq runs itself for the project, or "memory" for a fake
        server that ends with this call.
    stages: the names of the stages and sources to run; empty for all. Without a source it joins the current run.
    drain: return when nothing is outstanding anywhere in the pipeline and its sources have finished. Otherwise it runs
        until it is cancelled.
    arguments: for the sources, by parameter name.
    concurrency: how many messages, or batches, a stage handles at once, by stage; it wins over what is set elsewhere.
        `Pipeline.tuned` sets other options.
    namespace: the prefix of all keys in Redis.
    durability: "local", or "replicated": messages of sources count as stored once a replica of Redis has them.
    claim_store: the folder, or the URL of the bucket, where stages with `claim_above=` keep large bodies. By default
        a folder in `.flowq/`, if the server is there as well.
    lease: how long other workers wait for a sign of life from this one before they reclaim its messages (15 s
        unless set); in seconds, or text such as "1m".
    grace: how long running handlers may continue when it is cancelled (30 s unless set); likewise.
    fresh: start over: forget the cursors, the finished sources and every message, dead letters included.
    traces: run handlers in OpenTelemetry spans of the program's tracer provider.

    Raises UsageError or NotFound for a bad argument, duration or stage, NotConfigured if no Redis is named anywhere,
    BrokerUnavailable or BrokerRefused when Redis cannot be used, RunLost when Redis has lost the run, SourceFailed when
    a source has failed and everything it had sent is handled, and ResourceFailed when a resource cannot be opened, or
    fails to close within `grace`: its `summary` then holds the Summary.

    >>> import asyncio
    >>> from collections.abc import Iterator
    >>> import flowq
    >>> @flowq.source
    ... def numbers(up_to: int) -> Iterator[int]:
    ...     yield from range(up_to)
    >>> @flowq.stage
    ... async def show(number: int) -> None:
    ...     print(number)
    >>> pipeline = flowq.Pipeline("numbers", numbers >> show)
    >>> summary = asyncio.run(flowq.run(pipeline, redis="memory", arguments={"up_to": 3}))
    0
    1
    2
    >>> summary.drained, summary.stages["show"].ok
    (True, 3)
    """
    settings = Settings.of_program(
        redis=redis, namespace=namespace, durability=durability, claim_store=claim_store, lease=lease, grace=grace
    )
    pipeline = settings.tuned(pipeline.name, pipeline)
    if concurrency:
        pipeline = pipeline.tuned({stage: {"concurrency": n} for stage, n in concurrency.items()})
    options = _options(pipeline.plan, stages, arguments or {}, settings, drains=drain)
    async with open_broker(pipeline.name, settings, pipeline.plan.shards) as broker:
        if not broker.dialer.is_private:
            await ServerHealth(broker).refuse_without_permission()
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        run, sources = await start_run(pipeline.plan, broker, options, fresh=fresh)
        runner = Runner(
            pipeline.plan, broker, options, sources=sources, observer=_observer(pipeline.name, traces=traces)
        )
        with rarer_collections():
            unclosed = await _from_start_to_stop(run, runner, drain=drain)
        snapshot = await retry_until_available(broker.world, run.snapshot, what="closing the run")
        summary = run.summary(snapshot, loop.time() - started_at)
        if unclosed is not None:
            unclosed.summary = summary
            raise unclosed
        return summary


async def _from_start_to_stop(run: Run, runner: Runner, *, drain: bool) -> ResourceFailed | None:
    """Run until drained or failed. Returns the resource that failed to close, if one did."""
    try:
        await runner.start()
        watching = asyncio.ensure_future(until_drained(run, runner)) if drain else asyncio.Future[None]()
        try:
            await first_to_end(runner.ended, watching)
        finally:
            await _end(watching)
    except BaseException as error:
        unclosed = await _stopped(runner)
        if unclosed is not None and isinstance(error, ResourceFailed):
            raise unclosed from error  # more specific: it names the resource and the cause
        raise  # the first error matters more than the resource that did not close
    return await _stopped(runner)


async def _stopped(runner: Runner) -> ResourceFailed | None:
    """Stop a runner. Returns the resource that failed to close, if one did.

    A cancellation meanwhile only hurries it: running messages are handed back at once. An aborted stop would leave them
    running.
    """
    hurry = asyncio.Event()
    stopping = asyncio.create_task(runner.stop(hurry), name="stopping")
    cancelled: asyncio.CancelledError | None = None
    while not stopping.done():
        try:
            await asyncio.wait([stopping])
        except asyncio.CancelledError as error:
            cancelled = error
            hurry.set()
    unclosed = stopping.exception()
    if cancelled is not None:
        raise cancelled
    if unclosed is not None and not isinstance(unclosed, ResourceFailed):
        raise unclosed
    return unclosed


def _options(
    plan: Plan,
    stages: Sequence[str],
    arguments: Mapping[str, Any],
    settings: Settings,
    *,
    drains: bool,
) -> RunOptions:
    if isinstance(stages, str):
        raise UsageError(f'stages="{stages}" is text, not a list of names', hint=f'write  stages=["{stages}"]')
    # An iterator would be empty the second time, and empty means all stages.
    options = RunOptions(tuple(stages), arguments, settings.lease_seconds, settings.grace_seconds, drains)
    options.check(plan)
    return options


def _observer(pipeline: str, *, traces: bool) -> Observer | None:
    if not traces:
        return None
    require_opentelemetry()
    from flowq.runtime.handlers.tracing import Tracing

    return Tracing(pipeline)


async def _end(watching: asyncio.Future[None]) -> None:
    """Cancel until it has ended: a cancellation that coincides with a timeout is lost, and it would poll forever."""
    while not watching.done():
        watching.cancel()
        await asyncio.wait([watching], timeout=_CANCEL_AGAIN_SECONDS)


async def until_drained(run: Run, runner: Runner) -> None:
    """Wait until nothing is outstanding and no handler runs: one that settled early may still have outputs."""
    while True:
        was_idle = runner.is_idle
        snapshot = await retry_until_available(run.world, run.snapshot, what="watching the pipeline")
        run.refuse_if_lost(snapshot)
        if was_idle and await _is_drained(run, snapshot) and runner.is_idle:
            return
        await run.world.pause(poll_seconds(snapshot.outstanding))


async def _is_drained(run: Run, snapshot: Snapshot) -> bool:
    return await retry_until_available(run.world, lambda: run.is_drained(snapshot), what="watching the pipeline")
