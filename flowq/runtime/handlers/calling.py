"""Calls the function of a stage, wherever it runs, and encodes each value as soon as it is returned or yielded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping
from contextvars import copy_context
from copy import deepcopy
from functools import partial
from typing import Any, NoReturn

from flowq.delivery.error_groups import meant_by
from flowq.delivery.message import Row
from flowq.delivery.settlement import Output
from flowq.errors import BatchFailed, EncodeError, UsageError
from flowq.graph.compilation.plan import Handler, StagePlan
from flowq.graph.declaration.context import Context, Emitted
from flowq.graph.kinds import Placement, Shape
from flowq.runtime.handlers.threads import HandlerThreads

MOST_OUTPUTS = 100_000

Call = Callable[..., Any]
"""Called with a message, and with its context if the handler has a parameter for it. A handler that returns encoded
values is called with the row of its delivery as its first argument."""

Encoded = Callable[..., list[Output]]


def returns_encoded(handler: Handler) -> bool:
    """Whether values must be encoded where the handler runs: afterwards it may change them."""
    return handler.placement is Placement.THREAD or handler.shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)


def bind(
    stage: StagePlan, resources: Mapping[str, Any], threads: HandlerThreads | None, encoded: Encoded
) -> tuple[Call, bool]:
    """Wrap the handler of a stage as a `Call`. Also returns whether its result must be awaited."""
    handler = stage.handler
    call: Call = partial(handler.call, **resources) if resources else handler.call
    if handler.context_parameter is not None:
        call = _with_context(call, handler.context_parameter)
    if handler.shape is Shape.COROUTINE:
        return call, True
    if handler.shape is Shape.ASYNC_GENERATOR:
        return partial(_collect, call, encoded), True

    def generate(row: Row, *given: Any) -> list[Output]:
        values: Iterable[Any] = call(*given)
        try:
            return encoded(row, iter(values), is_iterator=True)
        finally:
            if isinstance(values, Generator):  # it may not be exhausted
                values.close()

    def run(row: Row, *given: Any) -> list[Output] | None:
        result = call(*given)
        return None if result is None else encoded(row, result)

    if handler.shape is Shape.GENERATOR:
        run = generate
    if handler.placement is Placement.LOOP:
        return (run if handler.shape is Shape.GENERATOR else call), False
    return partial(_on_a_thread, stage, threads, run), True


async def _on_a_thread(stage: StagePlan, threads: HandlerThreads | None, run: Call, *given: Any) -> Any:
    loop, work = asyncio.get_running_loop(), partial(run_in_thread, stage, run, given)
    # A copy for this message: the thread's own context would outlive it.
    result, error = await loop.run_in_executor(threads, copy_context().run, work)
    if error is not None:
        raise error
    return result


def run_in_thread(stage: StagePlan, run: Call, given: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """What a handler has returned or raised. Log lines find `stage` and `given` in this frame."""
    try:
        return run(*given), None
    except BaseException as error:  # noqa: BLE001  (a future cannot carry all of them: some would end the loop)
        _keep_outputs(error)
        return None, error


def _keep_outputs(error: BaseException) -> None:
    """Copy the outputs of a BatchFailed as they are now: the loop, which knows their rows, encodes them later."""
    failed = meant_by(error)
    if isinstance(failed, BatchFailed):
        with contextlib.suppress(Exception):  # what cannot be copied can hardly be encoded either
            failed.outputs = deepcopy(failed.outputs)


def _with_context(function: Call, parameter: str) -> Call:
    def call(message: Any, context: Context) -> Any:
        return function(message, **{parameter: context})

    return call


async def _collect(call: Call, encoded: Encoded, row: Row, *given: Any) -> list[Output]:
    values: AsyncIterable[Any] = call(*given)
    outputs: list[Output] = []
    n_values = 0
    try:
        async for value in values:
            outputs += encoded(row, iter((value,)), is_iterator=True)
            n_values += 1
            if n_values > MOST_OUTPUTS:
                refuse_number()
    finally:
        if isinstance(values, AsyncGenerator):  # it may not be exhausted
            await values.aclose()
    return outputs


class SendingContext(Context):
    """Encodes what is emitted at once: the handler may change the message afterwards.

    Once the handler `has_ended`, emitting is refused: nothing would send what a task that it started emits then.
    """

    __slots__ = ("_encode", "has_ended", "outputs")

    def __init__(self, encode: Callable[[Emitted], Output], **about: Any) -> None:
        super().__init__(**about)
        self._encode = encode
        self.outputs: list[Output] = []
        self.has_ended = False

    def refuse_when_ended(self, call: str) -> None:
        """Raise UsageError for a call after the handler has ended."""
        if self.has_ended:
            raise UsageError(
                f"{call} after the handler of {self.stage} has ended", hint="await what the handler has started"
            )

    def _note(self, emitted: Emitted) -> None:
        self.refuse_when_ended("ctx.emit()")
        self.outputs.append(self._encode(emitted))
        super()._note(emitted)


def refuse_number() -> NoReturn:
    """Raise EncodeError for more outputs than one settlement may have: Redis is blocked while it is written."""
    raise EncodeError(
        f"one message has more than {MOST_OUTPUTS:,} outputs, the limit for one settlement",
        hint="split it into parts, and send them to a stage that splits them further",
    )
