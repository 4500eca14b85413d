"""Calls the function of one stage as a worker would: typed, through the real codec, without Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, assert_never

from flowq.delivery.edge import Edge
from flowq.delivery.message import Header
from flowq.delivery.settlement import (
    Failed,
    HandlerTimeout,
    Interrupted,
    Outcome,
    Output,
    Postponed,
    Succeeded,
    TimedOut,
    Undecodable,
    Unencodable,
    Unfamiliar,
)
from flowq.errors import EncodeError, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.context import Emitted
from flowq.graph.declaration.flow import Accepts
from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.runtime.trial import Trial
from flowq.testing.alone.lone_stage import LoneStage

M = TypeVar("M")


async def call(
    stage: Accepts[M] | str,
    *messages: M,
    resources: Mapping[Resource[Any], Any] | None = None,
    attempt: int = 1,
    pipeline: Pipeline | Plan | None = None,
    emitted: list[Emitted] | None = None,
) -> Any:
    """Call one stage, and return what the next stage would get.

    The message is encoded, decoded and checked like one that a worker reads, and so is each value that the function
    returns. Resources are opened and closed. Nothing is stored, paced, retried or split: the function is called once.

    stage: the stage, or its name in `pipeline`.
    messages: one message; for a stage with `batch=`, as many as a batch may have.
    resources: values for resources, which are not opened then: `{client: FakeClient()}`.
    attempt: the attempt that the function sees in its context, from 1.
    pipeline: the pipeline of the stage, needed if the function emits to other stages through its context.
    emitted: a list to which the messages are added that the function emits through its context.

    Returns a list for a stage that may return many messages, because it is annotated so, because it yields them, or
    because it takes batches. Otherwise returns the value, or None for none. `bytes` stay bytes.

    Raises what the function raises, as it is; of a group of errors, the one that decides what happens to the message.
    Raises EncodeError for a message or an output that is not what the annotations say, HandlerTimeout if the `timeout=`
    of the stage ran out, ResourceFailed for a resource that does not open, UsageError for anything that is not one
    stage, for a resource that is not used, and for too many messages.

    >>> import asyncio
    >>> from flowq import stage
    >>> @stage
    ... async def half(number: int) -> int | None:
    ...     return number // 2 if number % 2 == 0 else None
    >>> asyncio.run(call(half, 8)), asyncio.run(call(half, 7))
    (4, None)
    """
    lone = LoneStage.of(stage, pipeline).with_resources(resources or {})
    _check_number(lone, len(messages))
    entered = [lone.entering(message) for message in messages]
    async with Trial(lone.plan, lone.stage) as trial:
        deliveries = [trial.delivery(each.body, _in_attempt(attempt, each.header)) for each in entered]
        outcome, committed = await trial.call(deliveries)
    try:
        outputs = [*committed, *_outputs_of(outcome)]
    except EncodeError as error:
        if pipeline is None and lone.stage.handler.context_parameter is not None:
            error.add_note("a stage that emits to other stages is called with the pipeline: call(..., pipeline=...)")
        raise
    if emitted is not None:
        emitted += _emitted(lone, [output for output in outputs if not lone.is_returned(output)])
    returned = lone.values([output for output in outputs if lone.is_returned(output)])
    if lone.returns_many or len(returned) > 1:  # a function annotated with `Any`, for instance, may return a list
        return returned
    return returned[0] if returned else None


def _check_number(lone: LoneStage, n_messages: int) -> None:
    most = lone.stage.batch.size if lone.stage.batch else 1
    if not 1 <= n_messages <= most:
        takes = f"up to {most:,} messages" if lone.stage.batch else "one message"
        raise UsageError(f"{lone.stage.name} takes {takes} in a call, not {n_messages:,}", hint="call it for each")


def _in_attempt(attempt: int, header: bytes) -> bytes:
    return header if attempt == 1 else replace(Header.decode(header), attempt=attempt).encode()


def _outputs_of(outcome: Outcome) -> Sequence[Output]:
    """The outputs of a handler that has succeeded. Raises what it has raised, or what is wrong with its outputs."""
    match outcome:
        case Succeeded():
            return outcome.outputs
        case Failed(error) | Undecodable(error) | Unfamiliar(error) | Unencodable(error):
            raise error
        case TimedOut(after_seconds):
            raise HandlerTimeout(f"ran longer than {after_seconds:g} s")
        case Interrupted() | Postponed():
            raise AssertionError(f"a trial neither stops nor paces: {outcome}")
        case _:
            assert_never(outcome)


def _emitted(lone: LoneStage, outputs: Sequence[Output]) -> list[Emitted]:
    targets = [Edge.parse(output.edge).target for output in outputs]
    delays = [output.delay_ms / 1000 for output in outputs]
    return [Emitted(*each) for each in zip(targets, lone.values(outputs), delays, strict=True)]
