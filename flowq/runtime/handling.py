"""Runs a handler on one delivery: bytes in, an outcome out. Nothing of the user's code gets past it as an exception."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from flowq.broker.claim_folder import ClaimFolder
from flowq.broker.claims import redeem
from flowq.delivery.codec import Decode, decoder
from flowq.delivery.message import Delivery
from flowq.delivery.settlement import (
    ROLLOUT_SECONDS,
    Failed,
    Outcome,
    Output,
    Succeeded,
    TimedOut,
    Undecodable,
    Unencodable,
)
from flowq.errors import BodyElsewhere, DecodeError, EncodeError, RetryLater, UnknownType
from flowq.graph.context import Context
from flowq.graph.emission import Emission
from flowq.graph.intake import Intake
from flowq.graph.matching import runtime_class
from flowq.graph.plan import Handler, Kind, Placement, Plan, Shape, StagePlan
from flowq.printable import printable
from flowq.runtime.threads import HandlerThreads
from flowq.runtime.versions import Versions

Commit = Callable[[Delivery, Sequence[Output]], Awaitable[None]]
"""Settles a delivery while its handler is still running."""

_MOST_OUTPUTS, _MOST_OUTPUT_BYTES = 100_000, 64_000_000
_NOTHING = Succeeded(())
_FILTERED = Succeeded((), filtered=True)


class HandlerCancelled(Exception):
    """A handler was ended by the cancellation of something that it waited for, not of the handler itself."""


class ManualAckMissing(Exception):
    """A handler of a stage with ack="manual" returned without `await ctx.ack()`."""


class Handling:
    """What one stage does with a delivery: decode, call, encode.

    `resources` are the opened values of the handler's `use()` parameters, `threads` where one placed there runs,
    `versions` tells whether a message that cannot be decoded may be another version's, `claims` where large bodies lie.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        emission: Emission,
        *,
        resources: Mapping[str, Any],
        threads: HandlerThreads | None = None,
        commit: Commit | None = None,
        versions: Versions | None = None,
        claims: ClaimFolder | None = None,
    ) -> None:
        self.stage = stage
        self._pipeline = plan.name
        self._emission = emission
        self._commit = commit
        self._decode_any = decoder(stage.accepts)
        self._intake = Intake(stage, plan)
        self._versions = versions
        self._claims = claims
        self._claiming = plan.claiming
        self._call, self._awaits = bind(stage.handler, resources, threads)
        self._threads = threads
        self._context = stage.handler.context_parameter
        self._gives_many = stage.handler.shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
        # A NewType of a list is one message; a list of anything else is many.
        self._takes_lists_apart = stage.handler.returns_list or list not in map(runtime_class, stage.emits)
        self._done = _NOTHING if stage.kind is Kind.SINK else _FILTERED
        self._timeout_seconds = stage.timeout_seconds

    def decode(self, delivery: Delivery) -> Any:
        """The message of a delivery. Raises DecodeError."""
        if b"=" not in delivery.header_bytes:
            return self._decode_any(delivery.body)
        if b" t=" not in delivery.header_bytes:
            return self._decode_any(delivery.content)
        content = delivery.content
        return self._decoder_by_tag(delivery)(content)

    def _decoder_by_tag(self, delivery: Delivery) -> Decode:
        tag = delivery.header.type_tag
        decode = self._intake.decoder(tag)
        if decode is None and Any not in self.stage.accepted and delivery.age_seconds(time.time()) < ROLLOUT_SECONDS:
            # Its body may well pass for another type.
            raise UnknownType(f"{self.stage.name} does not take {printable(tag)}", hint="run the version that sends it")
        return decode or self._decode_any

    async def undecoded(self, error: DecodeError, delivery: Delivery) -> Outcome:
        """What it means that a delivery could not be decoded."""
        return Undecodable(error) if self._versions is None else await self._versions.judge(error, delivery)

    def handle(self, delivery: Delivery) -> Coroutine[Any, Any, Outcome]:
        """Handle one delivery. Only cancellation gets out."""
        # Decodes here and now, and hands on the coroutine of what follows: one of its own would cost as much again.
        try:
            message = self.decode(delivery)
        except BodyElsewhere:
            return self._handle_claimed(delivery)
        except DecodeError as error:
            return self.undecoded(error, delivery)
        return self.handle_message(message, delivery)

    async def _handle_claimed(self, delivery: Delivery) -> Outcome:
        try:
            message = await self.decode_claimed(delivery)
        except DecodeError as error:
            return await self.undecoded(error, delivery)
        return await self.handle_message(message, delivery)

    async def decode_claimed(self, delivery: Delivery) -> Any:
        """The message of a delivery whose body lies in the claim folder. Raises DecodeError.

        Not before its handler is to start: what is read ahead would fill the memory. The delivery stays as it is, and
        so what becomes of it keeps the reference.
        """
        return self.decode(await redeem(self._claims, delivery))

    async def handle_message(self, message: Any, delivery: Delivery) -> Outcome:
        """Handle a decoded message, or the messages of a batch whose first delivery stands for all."""
        context = self._new_context(delivery) if self._context else None
        given = (message,) if context is None else (message, context)
        try:
            if self._timeout_seconds is not None:
                result, expired = await self._within(self._timeout_seconds, given)
                if expired:
                    return TimedOut(self._timeout_seconds)
            elif self._awaits:
                result = await self._call(*given)
            else:
                result = self._call(*given)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Failed(HandlerCancelled(str(error) or "something that the handler waited for was cancelled"))
        except BaseException as error:  # noqa: BLE001  (the user's code)
            return self.failed(error)
        if result is None and context is None:
            return self._done
        return self._outcome(result, context, delivery)

    def failed(self, error: BaseException) -> Failed:
        """The outcome of a handler that raised."""
        if isinstance(error, RetryLater) and error.hold and self.stage.rate is None:
            # Only a paced stage has keys to hold. Here the retry must count, or it could go on for ever.
            return Failed(RetryLater(error.reason, after=error.after))
        return Failed(error)

    def given(self, values: Sequence[Any], delivery: Delivery) -> Outcome:
        """The outcome of a handler that gave these values for a batch whose first delivery is this one."""
        return self._outcome(list(values), None, delivery)

    async def _within(self, seconds: float, given: tuple[Any, ...]) -> tuple[Any, bool]:
        """The result, and whether the time ran out: a TimeoutError of the handler's own is a failure like others."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                result = self._call(*given)
                return (await result if self._awaits else result), False
        except TimeoutError:
            if not limit.expired():
                raise
            if self._threads is not None:
                self._threads.give_up_one()
            return None, True

    def _outcome(self, result: Any, context: Context | None, delivery: Delivery) -> Outcome:
        try:
            many = self._gives_many or (isinstance(result, list) and self._takes_lists_apart)
            values: Any = result if many else (result,)  # pyright: ignore[reportUnknownVariableType]
            if many:
                check_number(values)
            outputs = self._emission.outputs(values, delivery)
            check_bytes(outputs, self._claiming)
            if context is not None:
                if self.stage.ack == "manual" and not context.acked:
                    return Failed(ManualAckMissing("the handler returned without `await ctx.ack()`"))
                outputs += self._emission.emitted(context.emitted, delivery)
        except EncodeError as error:
            return Unencodable(error)
        done = Succeeded(outputs) if outputs else self._done
        if context is not None and context.pace_seconds:
            return done._replace(pace_seconds=context.pace_seconds)
        return done

    def _new_context(self, delivery: Delivery) -> Context:
        header = delivery.header
        return Context(
            pipeline=self._pipeline,
            is_paced=self.stage.rate is not None,
            stage=self.stage.name,
            message_id=header.message_id,
            attempt=header.attempt,
            settle=partial(self._settle_now, delivery) if self.stage.ack == "manual" else None,
        )

    async def _settle_now(self, delivery: Delivery, context: Context) -> None:
        assert self._commit is not None
        outputs = self._emission.emitted(context.emitted, delivery)
        context.emitted.clear()
        await self._commit(delivery, outputs)


Call = Callable[..., Any]
"""Called with a message, and with its context where the handler has a parameter for it."""


def bind(handler: Handler, resources: Mapping[str, Any], threads: HandlerThreads | None) -> tuple[Call, bool]:
    """A handler as a `Call`, and whether its result must be awaited."""
    call: Call = partial(handler.call, **resources) if resources else handler.call
    if handler.context_parameter is not None:
        call = _with_context(call, handler.context_parameter)
    if handler.shape is Shape.COROUTINE:
        return call, True
    if handler.shape is Shape.ASYNC_GENERATOR:
        return lambda *given: _collect(call(*given)), True

    def run(*given: Any) -> Any:
        values: Iterable[Any] = call(*given)
        return list(islice(values, _MOST_OUTPUTS + 1))

    if handler.shape is Shape.FUNCTION:
        run = call
    if handler.placement is Placement.LOOP:
        return run, False
    loop = asyncio.get_running_loop()

    def run_in_thread(*given: Any) -> tuple[Any, BaseException | None]:
        try:
            return run(*given), None
        except BaseException as error:  # noqa: BLE001  (a future cannot carry each of them: some would end the loop)
            return None, error

    async def run_and_wait(*given: Any) -> Any:
        result, error = await loop.run_in_executor(threads, run_in_thread, *given)
        if error is not None:
            raise error
        return result

    return run_and_wait, True


def _with_context(function: Call, parameter: str) -> Call:
    def call(message: Any, context: Context) -> Any:
        return function(message, **{parameter: context})

    return call


async def _collect(values: AsyncIterable[Any]) -> list[Any]:
    collected: list[Any] = []
    async for value in values:
        collected.append(value)
        if len(collected) > _MOST_OUTPUTS:
            break
    return collected


def check_number(values: Sequence[Any]) -> None:
    """Raise EncodeError for more values than one step may carry: Redis does nothing else meanwhile."""
    if len(values) > _MOST_OUTPUTS:
        raise EncodeError(
            f"one message gave more than {_MOST_OUTPUTS:,} messages, which is more than one step may carry",
            hint="split it: give the parts to a stage that takes them apart further",
        )


def check_bytes(outputs: Sequence[Output], claiming: Mapping[str, int]) -> None:
    """The same for their size together, but for what goes to the claim folder."""
    n_bytes = sum([len(output.body) for output in outputs])
    if n_bytes > _MOST_OUTPUT_BYTES and claiming:
        sizes = [(output.edge, len(output.body)) for output in outputs]
        n_bytes = sum(size for edge, size in sizes if size <= claiming.get(edge, size))
    if n_bytes > _MOST_OUTPUT_BYTES:
        raise EncodeError(
            f"one message gave {n_bytes:,} bytes, and one step may carry {_MOST_OUTPUT_BYTES:,} bytes",
            hint="split the message, or have the bodies lie in a folder: @stage(claim_above=...) where they go",
        )
