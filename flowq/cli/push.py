"""`flowq push`: puts messages into a pipeline, one from the command line or many from a stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.errors import note
from flowq.cli.lines import Line, batches_of_lines
from flowq.cli.loading import load
from flowq.cli.options import Json, Namespace, Profile, RedisUrl, complete_pipeline, settings_here
from flowq.cli.printable import json_text
from flowq.delivery.durations import seconds
from flowq.errors import CodecError, DecodeError, QueueFull, UsageError

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline
    from flowq.graph.plan import Plan, StagePlan
    from flowq.publisher import SyncPublisher
    from flowq.settings import Settings

_FULL_PAUSE_SECONDS = 0.2


class BadMessage(UsageError):
    """A message that is no JSON, or not what the stage takes."""

    code = "FQ205"


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME[.STAGE]",
            help="Where to. Without a stage: the first one behind a source.",
            autocompletion=complete_pipeline,
        ),
    ],
    message: Annotated[
        str, typer.Argument(metavar="JSON", help="The message; - or @FILE for many, one JSON value a line.")
    ],
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help='Run it later: "30s", "5m", "1d".')
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The same id within an hour is stored once.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Fail instead of waiting when the stage is full.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only check the messages; no Redis.")] = False,
    as_json: Json = False,
    redis: RedisUrl = None,
    namespace: Namespace = None,
    profile: Profile = None,
) -> None:
    """Put messages into a pipeline.

    Each is checked against the type that the stage takes. Prints the id of a single message, the number of many.
    At a message that does not fit it stops with exit code 2; all those before it are stored.

    Example:
      flowq push scrape '{"url": "https://example.org/"}'
      flowq push scrape.parse @pages.ndjson --delay 5m
      jq -c '.links[]' links.json | flowq push scrape -
    """
    is_bulk = message == "-" or message.startswith("@")
    if is_bulk and id_:
        raise UsageError("--id is for a single message", hint="leave it out")
    settings = settings_here(redis=redis, namespace=namespace, profile=profile)
    name, _, stage_name = target.partition(".")
    pipeline = load(name, settings).pipeline
    stage = _stage(pipeline.plan, stage_name)
    push = _Push(name, stage, _seconds(delay), wait=not no_wait)
    with ExitStack() as stack:
        if not dry_run:
            push.publisher = stack.enter_context(_publisher(pipeline, settings))
        if is_bulk:
            stream = sys.stdin.buffer if message == "-" else stack.enter_context(_open(message[1:]))
            push.many(stream, "stdin" if message == "-" else message[1:])
            print(push.outcome(as_json))
        else:
            message_id = push.one(message.encode(), id_)
            print(json_text({"id": message_id, "stage": stage.name}) if as_json else message_id or "valid")
