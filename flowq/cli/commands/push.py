"""`flowq push`: puts messages into a pipeline, one from the command line or many from a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.framework.completion import complete_pipeline_or_stage
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.line_batches import line_batches, opened
from flowq.cli.framework.loading import load
from flowq.cli.framework.parameters import Here, Json, duration_of
from flowq.delivery.chunks import MOST_BYTES_PER_CALL, MOST_PER_CALL
from flowq.delivery.edge import inlet_of
from flowq.delivery.encoding.codec import decoder
from flowq.errors import CodecError, FlowqError, QueueFull, UsageError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import Outlet, entering
from flowq.graph.compilation.typecheck import type_names
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.delivery.pushed import PushedId
    from flowq.sync_publisher import SyncPublisher

_FULL_PAUSE_SECONDS = 0.2


class BadMessage(UsageError):
    """A message that is not JSON, or does not fit the stage."""

    code = "FQ205"


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME[.STAGE]",
            help="The receiving stage.  [default: the first one behind a source]",
            autocompletion=complete_pipeline_or_stage,
        ),
    ],
    message: Annotated[
        str,
        typer.Argument(metavar="JSON", help="The message; or many, one per line: - is stdin, @FILE a file."),
    ],
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help='Delay it by "30s", "5m", "1d".')
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Your own id; a message pushed twice within an hour is stored once."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail when the stage is full, instead of waiting.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only check the messages; needs no Redis.")] = False,
    as_json: Json = False,
    *,
    settings: Here,
) -> None:
    """Put messages into a pipeline.

    Each message is checked against the type that the stage accepts. Prints the id of a single message, or the number of
    many. A message that does not fit ends the command with exit code 2; those before it are stored.

    Example:
      flowq push scrape '{"url": "https://example.org/"}'
      flowq push scrape.parse @pages.ndjson --delay 5m
      jq -c '.links[]' links.json | flowq push scrape -
    """
    many = message == "-" or message.startswith("@")
    if many and id_:
        raise UsageError("--id is for a single message")
    delay_seconds = duration_of("--delay", delay) if delay else 0.0
    name, _, stage_name = target.partition(".")
    pipeline = load(name, settings).pipeline
    inlet = Inlet(pipeline.plan, entrance(pipeline.plan, stage_name))
    with ExitStack() as stack:
        stream = stack.enter_context(opened(message.removeprefix("@"))) if many else None
        value = None if many else inlet.read(message.encode("utf-8", "surrogateescape"))[0]  # the bytes as typed
        publisher = None
        if not dry_run:
            from flowq.sync_publisher import SyncPublisher  # brings the Redis client, which a dry run does without

            publisher = stack.enter_context(SyncPublisher(pipeline, settings=settings))
        sender = Sender(publisher, inlet.stage, delay_seconds, waits=not no_wait)
        if stream is None:
            _print_id(inlet.stage, sender.send_one(value, id_), as_json)
        else:
            _push_all(stream, inlet, sender, as_json)


def _print_id(stage: str, pushed: PushedId | None, as_json: bool) -> None:
    """None: only checked."""
    if as_json:
        print(json_text({"stage": stage, "id": pushed} | ({"is_new": pushed.is_new} if pushed else {})))
    else:
        print(printable(pushed or "valid"))
        if pushed and not pushed.is_new:
            note(f"{pushed} was already there: nothing was stored")


def consumer(plan: Plan, name: str) -> StagePlan:
    """The stage of that name. Raises NotFound for an unknown one, UsageError for a source."""
    stage = plan.stage(name)
    if stage.is_source:
        hint = "name a stage behind it: " + ", ".join(stage.name for stage in plan.consumers)
        raise UsageError(f'"{name}" is a source: it accepts no messages', hint=hint)
    return stage


def entrance(plan: Plan, name: str = "") -> StagePlan:
    """The stage to push to: the named one, else the first behind a source, else the only head of a flow.

    Raises NotFound for an unknown stage, UsageError for a source, or when several could be meant.
    """
    if name:
        return consumer(plan, name)
    origins = {stage.name: {edge.origin for edge in plan.edges_into(stage.name)} - {""} for stage in plan.consumers}
    sources = {stage.name for stage in plan.sources}
    behind_sources = [name for name, before in origins.items() if before & sources]
    heads = [name for name, before in origins.items() if before <= {name}]
    if behind_sources:
        return plan.stage(behind_sources[0])
    if len(heads) == 1:
        return plan.stage(heads[0])
    hint = "one of " + ", ".join(f"{plan.name}.{name}" for name in heads or origins)
    raise UsageError("which stage should receive the message?", hint=hint)


class Inlet:
    """Turns JSON into messages for one stage, and makes sure that each can be stored."""

    def __init__(self, plan: Plan, stage: StagePlan) -> None:
        self.stage = stage.name
        self._accepts = type_names(stage.accepted)
        self._decode = decoder(stage.accepts)
        self._inlet = Outlet(plan, inlet_of(stage.name))

    def read(self, content: bytes, line: int = 0) -> tuple[Any, int]:
        """The message, and its bytes as it will be stored. Raises BadMessage, which names the line."""
        try:
            value: object = self._decode(content)
            size = len(entering(self._inlet.target_for(value), value, b"").body)
        except CodecError as error:
            where = f"line {line}" if line else "the message"
            details = error.detail.split("; ") if error.detail else [error.message]
            raise BadMessage(
                f"{where} does not fit {self.stage}, which accepts {self._accepts}",
                detail="\n".join(details),
                hint=error.hint,
            ) from None
        return value, size


@dataclass
class Sender:
    """Sends messages to a stage and counts them; without a publisher it only counts."""

    publisher: SyncPublisher | None
    stage: str
    delay_seconds: float
    waits: bool
    taken: int = 0
    duplicates: int = 0
    _is_told: bool = False

    def send_one(self, value: Any, id_: str | None) -> PushedId | None:
        """Send one message; returns its id."""
        if self.publisher is None:
            return None
        while True:
            try:
                return self.publisher.push(self.stage, value, id=id_, delay=self.delay_seconds, wait=False)
            except QueueFull as full:
                self._wait_for_room(full)

    def send(self, values: Sequence[Any]) -> None:
        """Send values, each once, however often there is no room."""
        while self.publisher and values:
            try:
                pushed = self.publisher.push_many(self.stage, values, delay=self.delay_seconds, wait=False)
            except FlowqError as error:
                self._count(error.stored, error.duplicates)
                values = values[error.stored :]
                if not isinstance(error, QueueFull):
                    raise
                self._wait_for_room(error)
            else:
                self._count(len(values), pushed.duplicates)
                return
        self._count(len(values), 0)

    def _count(self, taken: int, duplicates: int) -> None:
        self.taken += taken
        self.duplicates += duplicates

    def outcome(self, as_json: bool) -> str:
        """A summary of the messages so far."""
        if as_json:
            pushed = self.taken - self.duplicates if self.publisher else 0
            counts = {"valid": self.taken, "pushed": pushed, "duplicates": self.duplicates}
            return json_text({"stage": self.stage, **counts})
        if self.publisher is None:
            return f"{self.taken:,} valid for {self.stage}"
        dropped = f", {self.duplicates:,} seen before" if self.duplicates else ""
        return f"{self.taken - self.duplicates:,} pushed to {self.stage}{dropped}"

    def _wait_for_room(self, full: QueueFull) -> None:
        if not self.waits:
            raise full
        if not self._is_told:
            note(f"{full.message}: waiting for workers to make room, Ctrl-C stops")
        self._is_told = True
        time.sleep(_FULL_PAUSE_SECONDS)


def _push_all(stream: BufferedReader, inlet: Inlet, sender: Sender, as_json: bool) -> None:
    """Push every line. However it ends, stdout says how many were pushed."""
    if stream.isatty():
        note(f"reading messages for {inlet.stage}, one JSON value per line; Ctrl-D ends")
    try:
        for batch in line_batches(stream, most=MOST_PER_CALL):
            values: list[Any] = []
            n_bytes = 0
            try:
                for line in batch:
                    value, size = inlet.read(line.content, line.number)
                    if values and n_bytes + size > MOST_BYTES_PER_CALL:
                        whole, values, n_bytes = values, [], 0
                        sender.send(whole)
                    values.append(value)
                    n_bytes += size
            finally:  # those before a bad one count
                sender.send(values)
    except BadMessage as bad:
        done = "valid" if sender.publisher is None else "pushed"
        were = "was" if sender.taken == 1 else "were"
        bad.detail += f"\n{sender.taken:,} before it {were} {done}, none after it"
        raise
    finally:
        print(sender.outcome(as_json))
