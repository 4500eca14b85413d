"""`flowq try`: runs the function of one stage on messages from a file or a pipe, and prints its outputs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import TYPE_CHECKING, Annotated, BinaryIO

import orjson
import typer

from flowq.cli.commands.push import BadMessage, consumer
from flowq.cli.framework.completion import complete_pipeline_or_stage, complete_stage
from flowq.cli.framework.connect import plan_and_stage
from flowq.cli.framework.error_screen import explain, note, show
from flowq.cli.framework.line_batches import Line, line_batches, opened
from flowq.cli.framework.parameters import settings_here
from flowq.delivery.edge import Edge
from flowq.delivery.settlement import (
    DeadLetter,
    Delay,
    Failed,
    Outcome,
    Output,
    Settlement,
    Succeeded,
    TimedOut,
    Undecodable,
    Unencodable,
    decide,
)
from flowq.errors import Problem, UsageError
from flowq.printable import printable_json

if TYPE_CHECKING:
    from flowq.delivery.message import Delivery
    from flowq.graph.compilation.plan import Plan, StagePlan
    from flowq.runtime.stage.batching import Outcomes


def command(
    target: Annotated[
        str, typer.Argument(metavar="NAME.STAGE", help="The stage to try.", autocompletion=complete_pipeline_or_stage)
    ],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A message as JSON, or many, one per line; - is standard input.")
    ] = "-",
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="STAGE", help="Print only what would go to this stage.", autocompletion=complete_stage
        ),
    ] = None,
) -> None:
    """Run one stage on one or more messages, without Redis, and print its outputs.

    Works as in a worker: messages are checked, resources are opened, a batch stage gets batches, and outputs are
    checked and encoded. Nothing is stored, paced or retried. Outputs are printed one per line, as input for the next
    stage.

    Example:
      flowq try scrape.fetch link.json
      flowq try scrape.fetch link.json | flowq try scrape.parse --to store

    Exit codes: 0 all succeeded, 1 the handler failed for some, 2 a message or a name is wrong.
    """
    plan, name = plan_and_stage(target, settings_here())
    if not name:
        hint = "one of " + ", ".join(f"{plan.name}.{stage.name}" for stage in plan.consumers)
        raise UsageError("which stage?", hint=hint)
    stage = consumer(plan, name)
    if to is not None:
        plan.stage(to)
    printer = Printer(sys.stdout.buffer, to)
    is_message = file.lstrip().startswith(("{", "[", '"'))
    hint = "pipe the message:  echo '...' | flowq try NAME.STAGE" if is_message else ""
    with (
        opened(file, hint=hint) as stream,
        contextlib.redirect_stdout(sys.stderr),
    ):  # the report alone goes to stdout
        failures = asyncio.run(_try(plan, stage, stream, printer))
    if failures:
        raise typer.Exit(1)


async def _try(plan: Plan, stage: StagePlan, stream: BufferedReader, printer: Printer) -> int:
    """The number of messages that the function failed for."""
    from flowq.runtime.trial import Trial

    report = Report(stage)
    async with Trial(plan, stage) as trial:
        if stream.isatty():
            note(f"reading messages for {stage.name}, one JSON value per line; Ctrl-D ends")
        for lines in _messages(stream, trial.call_size):
            outcomes, committed = await trial.run([line.content for line in lines])
            for outcome in (outcome for _, outcome in outcomes):
                if isinstance(outcome, Succeeded):
                    printer.print(outcome.outputs)
            printer.print(committed)
            report.add(lines, outcomes)
    return report.failures


class Printer:
    """Writes outputs to stdout, each value once however many stages it would go to."""

    def __init__(self, stdout: BinaryIO, to: str | None) -> None:
        self._stdout = stdout
        self._to = to

    def print(self, outputs: Sequence[Output]) -> None:
        """Write these at once: the next command in the pipe may be waiting for them."""
        last: bytes | None = None
        for output in outputs:
            if self._to is not None and Edge.parse(output.edge).target != self._to:
                continue
            if output.body is not last:  # encoded once for all the stages that one value goes to
                self._stdout.write(_shown(output.body) + b"\n")
            last = output.body
        self._stdout.flush()


class Report:
    """Reports failures on stderr, and what a worker would have done about them."""

    def __init__(self, stage: StagePlan) -> None:
        self._stage = stage
        self.failures = 0

    def add(self, lines: Sequence[Line], outcomes: Outcomes) -> None:
        """Add the outcomes of some messages. Raises BadMessage for one that does not fit the stage."""
        bodies = {id(line.content): line.number for line in lines}
        for deliveries, outcome in outcomes:
            if isinstance(outcome, Succeeded):
                if outcome.filtered:
                    note(f"{self._stage.name} filtered {self._names(deliveries, bodies)}: it returned None")
                continue
            self.failures += len(deliveries)
            self._report(
                self._names(deliveries, bodies), outcome, decide(outcome, deliveries[0], self._stage.retry, 0.5)
            )

    def _names(self, deliveries: Sequence[Delivery], lines: dict[int, int]) -> str:
        numbers = [lines[id(delivery.body)] for delivery in deliveries]
        return f"line {numbers[0]}" if len(numbers) == 1 else f"lines {numbers[0]} to {numbers[-1]}"

    def _report(self, where: str, outcome: Outcome, settlement: Settlement) -> None:
        stage = self._stage
        if isinstance(outcome, Undecodable):
            from flowq.graph.compilation.typecheck import type_names

            detail = getattr(outcome.error, "detail", "") or str(outcome.error)
            raise BadMessage(
                f"{where} does not fit {stage.name}, which accepts {type_names(stage.accepted)}",
                detail="\n".join(detail.split("; ")),
            )
        match outcome:
            case Failed(error) | Unencodable(error):
                details = tuple(explain(error))
            case TimedOut(after_seconds):
                details = (f"it ran longer than {after_seconds:g} s",)
            case _:
                details = ()
        show(
            Problem("FQ304", f"{stage.name} failed for {where}", stage.place, details, _what_follows(settlement, stage))
        )


def _what_follows(settlement: Settlement, stage: StagePlan) -> str:
    match settlement:
        case DeadLetter(reason=reason):
            return f"in a run, this message would now be a dead letter ({reason})"
        case Delay(delay_ms=delay_ms):
            return (
                f"in a run, it would be retried in about {delay_ms / 1000:g} s, up to {stage.retry.attempts} attempts"
            )
        case _:
            return ""


def _messages(stream: BufferedReader, most: int) -> Iterator[list[Line]]:
    """Messages in the batches of one call each: one per line, or a single one that spans several lines."""
    batches = line_batches(stream, most=most)
    first = next(batches, None)
    if first is None:
        raise UsageError("no message to try", hint="give a file, or JSON on stdin, one message per line")
    if first[0].content.rstrip() in (b"{", b"[") or not _is_json(first[0].content):
        whole = b"\n".join(line.content for batch in (first, *batches) for line in batch)
        yield [Line(first[0].number, whole)]
        return
    yield first
    yield from batches


def _shown(body: bytes) -> bytes:
    """JSON in a form that is safe to print; other bytes as they are."""
    return printable_json(body.decode()).encode() if _is_json(body) else body


def _is_json(content: bytes) -> bool:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True
