"""`flowq test`: the property test of a pipeline, out of the box: random messages, schedules and faults."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.commands.push import Inlet, consumer, entrance
from flowq.cli.framework.completion import complete_pipeline_or_stage
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.line_batches import line_batches, opened
from flowq.cli.framework.loading import load
from flowq.cli.framework.parameters import Json, Profile, arguments_of
from flowq.errors import FlowqError, UsageError
from flowq.printable import json_text
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.cli.property_test.feeding import Feed
    from flowq.cli.property_test.property_test import PropertyTest
    from flowq.graph.compilation.plan import Plan, StagePlan
    from flowq.testing import Report

_MADE = 200
_MOST_LINES = 100_000
_NEEDED = ("fakeredis", "hypothesis")


class FailureFound(FlowqError):
    """A schedule and faults under which a pipeline loses, doubles or leaves something, or fails in another way."""

    code = "FQ607"


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME[.STAGE]",
            help="The pipeline, and the stage to feed.  [default: every stage]",
            autocompletion=complete_pipeline_or_stage,
            show_default=False,
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, metavar="N", help="How many to try.  [default: as many as 10 seconds allow]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="The first seed.")] = 0,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="Messages per stage and seed.")] = 5,
    messages: Annotated[
        str | None,
        typer.Option("--messages", metavar="FILE", help="Feed these instead of made-up ones: JSON, one per line."),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="KEY=VALUE", help="Run the sources that take this argument, for input."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, metavar="N", help="Simulated workers.")] = 2,
    fakes: Annotated[
        str | None,
        typer.Option(
            "--fakes",
            metavar="FILE[:FUNCTION]",
            help="What replaces resources.  [default: tests/test_NAME.py:fakes, if that exists]",
            show_default=False,
        ),
    ] = None,
    with_real_resources: Annotated[
        bool, typer.Option("--with-real-resources", help="Open resources that nothing replaces.")
    ] = False,
    redis: Annotated[
        str | None,
        typer.Option("--redis", metavar="URL", help="Use this server instead of a fake one, in new namespaces."),
    ] = None,
    as_json: Json = False,
    profile: Profile = None,
) -> None:
    """Test that a pipeline loses nothing, whatever fails.

    Runs the pipeline on a fake Redis with a virtual clock, each seed with other messages, another schedule and other
    faults: workers crash, replies are lost, requests arrive twice, the server stalls. Afterwards each message must be
    handled or a dead letter, none twice, and nothing may be left behind. A failure is shrunk and told as a story.

    Resources are replaced by what `fakes()` in the project's own test returns; real ones are not opened unasked. What a
    handler does without a resource, it does for real. A function `check(h)` beside it gets the harness after each seed.

    Example:
      flowq test shop
      flowq test shop --seeds 1000
      flowq test shop.validate --messages rows.ndjson
      flowq test shop -a path=shop.csv --fakes tests/fakes.py

    Exit codes: 0 nothing found, 1 a failure was found, 2 usage.
    """
    _require_extra()
    from flowq.cli.property_test.fakes import find_own_part, require_fakes
    from flowq.cli.property_test.property_test import PropertyTest

    settings = Settings.load(profile=profile)
    name, _, stage = target.partition(".")
    loaded = load(name, settings)
    plan, arguments = loaded.pipeline.plan, arguments_of(arg)
    own = find_own_part(fakes, loaded.name, settings.root)
    if not with_real_resources:
        require_fakes(plan, own.fakes, with_sources=bool(arguments))
    feed = _feed(plan, stage, messages, arguments)
    test = PropertyTest(loaded.pipeline, feed, own, count, workers, redis)
    _print(test, _run(test, seeds, seed), as_json=as_json)


def _require_extra() -> None:
    if missing := [package for package in _NEEDED if find_spec(package) is None]:
        raise UsageError(f"flowq test needs {' and '.join(missing)}", hint='pip install "flowq-streams[test]"')


def _feed(plan: Plan, stage: str, messages: str | None, arguments: Mapping[str, Any]) -> Feed:
    """What is fed: what sources emit, what a file has, or what types allow."""
    from flowq.cli.property_test.feeding import Feed, emitted_by_sources, made_from_types

    if arguments:
        if messages or stage:
            raise UsageError("-a runs sources, which feed their stages", hint="leave out the stage and --messages")
        return emitted_by_sources(plan, arguments)
    if messages is not None:
        target = entrance(plan, stage)
        return Feed({target.name: _read(plan, target, messages)})
    stages = [consumer(plan, stage)] if stage else plan.consumers
    return made_from_types(plan, [stage.name for stage in stages], count=_MADE)


def _read(plan: Plan, stage: StagePlan, file: str) -> list[Any]:
    """The messages in a file. Raises BadMessage for a line that does not fit, UsageError if there is none."""
    inlet = Inlet(plan, stage)
    with opened(file) as stream:
        lines = [line for batch in line_batches(stream, most=_MOST_LINES) for line in batch]
    if not lines:
        raise UsageError(f"{file} has no message", hint="JSON, one message per line")
    return [inlet.read(line.content, line.number)[0] for line in lines]


def _run(test: PropertyTest, seeds: int | None, start_seed: int) -> Report:
    """Try all seeds. Raises FailureFound."""
    from flowq.cli.property_test.result_screen import progress_line
    from flowq.cli.views.table import console_for
    from flowq.testing import Found

    try:
        with (
            contextlib.redirect_stdout(sys.stderr),  # the report alone goes to stdout
            progress_line(console_for(sys.stderr), test.pipeline.name, seeds) as show,
        ):
            return asyncio.run(test.run(seeds=seeds, start_seed=start_seed, on_progress=show))
    except Found as found:
        story = found.story
        raise FailureFound(
            f"{test.pipeline.name} fails with seed {found.seed}",
            detail="\n".join((story.head, *(f"  {line}" for line in story.lines), story.error)),
            hint=f"the same command with  --seed {found.seed} --seeds 1  finds it again",
        ) from found.__cause__


def _print(test: PropertyTest, report: Report, *, as_json: bool) -> None:
    from flowq.cli.property_test import result_screen
    from flowq.cli.views.table import console_for

    if as_json:
        print(json_text(result_screen.as_json(test.pipeline.name, report, test.tally)))
        return
    console = console_for(sys.stdout)
    console.print(result_screen.result(test.pipeline.name, report, test.tally, console.width))
    if idle := [name for name, stage in test.tally.stages.items() if not stage.calls]:
        note(f"{', '.join(idle)} got no message: give real ones with --messages FILE")
