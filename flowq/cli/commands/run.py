"""`flowq run`: runs a pipeline, or some stages of it, until it is drained or stopped."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.completion import complete_number_of_stage, complete_option_of_stage, complete_stage
from flowq.cli.framework.parameters import (
    LogFormat,
    LogLevels,
    Namespace,
    PipelineName,
    Profile,
    RedisUrl,
    arguments_of,
    duration_of,
    pairs_of,
)
from flowq.errors import UsageError
from flowq.settings import Settings
from flowq.settings.stages import StageSetting

if TYPE_CHECKING:
    from flowq.cli.run.run_session import Session
    from flowq.graph.compilation.plan import Plan

Stages = Annotated[
    list[str] | None,
    typer.Option(
        "--stage",
        "-s",
        metavar="STAGE",
        help="Run only this stage, until stopped. Repeatable, or comma-separated.",
        autocompletion=complete_stage,
    ),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        "-x",
        metavar="STAGE",
        help="Run all stages but this one. Repeatable.",
        autocompletion=complete_stage,
    ),
]
Shards = Annotated[
    list[int] | None,
    typer.Option(
        "--shard",
        metavar="K",
        min=0,
        help="Serve only this shard, instead of those that are assigned. Repeatable.",
    ),
]
Concurrency = Annotated[
    list[str] | None,
    typer.Option(
        "--concurrency",
        "-c",
        metavar="STAGE=N",
        help="The number of concurrent handlers of a stage, per process. Repeatable.",
        autocompletion=complete_number_of_stage,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.OPTION=VALUE",
        help="Set an option of a stage: fetch.timeout=30s, fetch.retry.attempts=8. Repeatable.",
        autocompletion=complete_option_of_stage,
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", "-a", metavar="KEY=VALUE", help="An argument of the sources; for a list, repeat it or write JSON."
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="STAGE=N",
        help="Stop when a stage has settled N more messages.",
        autocompletion=complete_number_of_stage,
    ),
]


def command(
    name: PipelineName,
    stage: Stages = None,
    exclude: Excluded = None,
    shard: Shards = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", metavar="N", help="Worker processes; 0 runs in this one.  [default: 1]"),
    ] = None,
    concurrency: Concurrency = None,
    set_: Set = None,
    arg: Arguments = None,
    drain: Annotated[
        bool | None,
        typer.Option("--drain/--forever", help="Exit when drained, or keep running.  [default: drain if sources run]"),
    ] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help='Stop after a time: "10m".')] = None,
    limit: Limits = None,
    max_dead: Annotated[int, typer.Option(min=0, metavar="N", help="Up to N dead letters still count as success.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what earlier runs have left, then start.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the workers with the new code when a Python file changes.")
    ] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Run in this process, without a Redis server.")] = False,
    grace: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Time to finish running messages after a stop signal.")
    ] = None,
    lease: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long an unresponsive worker keeps its messages.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines; the last one is the summary.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            envvar="FLOWQ_METRICS",
            rich_help_panel="Watch",
            help="Serve /metrics, /healthz and /readyz; on 127.0.0.1 unless a host is given.",
        ),
    ] = None,
    otel: Annotated[
        bool,
        typer.Option("--otel", rich_help_panel="Watch", help="Send traces, configured by the OTEL_* variables."),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            metavar="text|json",
            envvar="FLOWQ_LOG_FORMAT",
            rich_help_panel="Watch",
            help="The format of log lines.",
        ),
    ] = LogFormat.TEXT,
    log_level: LogLevels = None,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Run a pipeline, or some of its stages.

    A whole pipeline with sources drains and exits. With --stage it runs until it is stopped.

    Example:
      flowq run scrape -a url=https://example.org/
      flowq run scrape --stage parse --workers 4
      flowq run scrape -c fetch=32 --set fetch.retry.attempts=8 --set store.batch=1000
      flowq run scrape --memory -a url=https://example.org/
      flowq run scrape --forever --reload
      flowq run scrape --stage fetch --metrics :9100 --log-format json --log-level info,httpx=debug

    Exit codes: 0 done, 2 usage, 3 drained with new dead letters, 4 Redis unreachable, 5 --for ended before the
    pipeline was drained, 130 after Ctrl-C, 143 after a second SIGTERM.
    """
    from flowq.cli.framework.loading import find
    from flowq.cli.framework.log_levels import levels_of
    from flowq.cli.framework.logs import LogSetup
    from flowq.cli.run.run_session import Session
    from flowq.monitoring.address import address_of

    flags = {"redis": redis, "namespace": namespace, "workers": workers, "grace": grace, "lease": lease}
    settings = Settings.load(flags=flags, profile=profile)
    log_setup = LogSetup(log_format, name, levels_of(log_level))
    log_setup.begin()
    found = find(name, settings)
    for_stages = [*_set("--set", found.name, set_), *_set("-c", found.name, concurrency)]
    loaded = found.tuned(settings.with_stages(for_stages))
    log_setup.after_import()
    plan = loaded.pipeline.plan
    memory = memory or settings.is_in_memory
    stages = _selected(plan, _names(stage), _names(exclude))
    is_whole = len(stages) == len(plan.stages)
    session = Session(
        loaded,
        settings,
        stages=() if is_whole else stages,
        shards=_shards(shard, memory=memory),
        arguments=arguments_of(arg),
        drains=is_whole and bool(plan.sources) if drain is None else drain,
        for_seconds=None if for_ is None else duration_of("--for", for_),
        limits=_numbers("--limit", limit, stages),
        max_dead=max_dead,
        fresh=fresh,
        memory=memory,
        json=json,
        quiet=quiet,
        metrics=None if metrics is None else address_of(metrics, flag="--metrics"),
        log_setup=log_setup,
        traces=_traces(otel),
        reloads=_reloads(reload, in_process=memory or settings.workers == 0),
    )
    _run_and_leave(session)


def _run_and_leave(session: Session) -> None:
    from flowq.cli.framework.error_screen import note, report
    from flowq.runtime.handlers.streams import flush_and_discard, forgiving_stdout, loss_of
    from flowq.runtime.process.ending import leave
    from flowq.runtime.process.fast_loop import fast_loop_factory

    output = sys.stdout = forgiving_stdout()  # the run continues even if its output cannot be written
    runner = asyncio.Runner(loop_factory=fast_loop_factory())
    try:
        code = runner.run(session.run())
    except BaseException as error:  # noqa: BLE001  (the border of the process, as in a worker)
        code = report(error, debug=bool(os.environ.get("FLOWQ_DEBUG")))
    flush_and_discard()
    if lost := loss_of(output):
        note(f"some output could not be written to standard output: {lost.strerror or lost}")
    leave(code)  # closing the runner, or a normal exit, would wait for abandoned handlers in threads


def _traces(wanted: bool) -> bool:
    """Whether to trace, by the flag or the variables."""
    from flowq.runtime.handlers.telemetry import require_opentelemetry, wants_traces

    wanted = wanted or wants_traces(os.environ)
    if wanted:
        require_opentelemetry()
    return wanted


def _reloads(wanted: bool, *, in_process: bool) -> bool:
    """Whether to reload. Raises UsageError where it is impossible."""
    if wanted and in_process:
        raise UsageError("--reload restarts worker processes", hint="leave out --memory and --workers 0")
    if wanted and find_spec("watchfiles") is None:
        raise UsageError("--reload needs watchfiles", hint='pip install "flowq-streams[reload]"')
    return wanted


def _selected(plan: Plan, chosen: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
    """The stages that run here. Raises NotFound for one that does not exist, UsageError if none is left."""
    for name in (*chosen, *excluded):
        plan.stage(name)
    names = tuple(stage.name for stage in plan.stages)
    selected = tuple(name for name in names if (not chosen or name in chosen) and name not in excluded)
    if not selected:
        raise UsageError("no stage is left to run", hint="its stages: " + ", ".join(names))
    return selected


def _shards(given: Sequence[int] | None, *, memory: bool) -> tuple[int, ...]:
    """The shards to serve. Raises UsageError where no other process can serve the rest."""
    if given and memory:
        raise UsageError(
            "with --memory there is no other process that could serve the other shards", hint="leave out --shard"
        )
    return tuple(sorted(set(given or ())))


def _names(given: Sequence[str] | None) -> list[str]:
    return [name.strip() for item in given or () for name in item.split(",") if name.strip()]


def _set(flag: str, pipeline: str, given: Sequence[str] | None) -> Iterator[StageSetting]:
    """The settings of stages in a flag: `-c STAGE=N` is short for `--set STAGE.concurrency=N`."""
    form = "STAGE=N" if flag == "-c" else "STAGE.OPTION=VALUE"
    for key, value in pairs_of(flag, given, form, may_be_empty=True).items():
        stage, dot, option = f"{key}.concurrency".partition(".") if flag == "-c" else key.partition(".")
        if not stage or not dot or not option:
            raise UsageError(f"{flag} {key}={value} is not {form}", hint="write  --set fetch.retry.attempts=8")
        yield StageSetting.read(pipeline, stage, option, value, f"{flag} {key}={value}")


def _numbers(flag: str, given: Sequence[str] | None, stages: Sequence[str]) -> Mapping[str, int]:
    numbers: dict[str, int] = {}
    for stage, value in pairs_of(flag, given, "STAGE=N").items():
        if stage not in stages:
            raise UsageError(f'{flag} {stage}={value}: no stage "{stage}" runs here', hint=", ".join(stages))
        if not value.isdecimal() or int(value) < 1:
            raise UsageError(f"{flag} {stage}={value}: a whole number above 0 is needed")
        numbers[stage] = int(value)
    return numbers
