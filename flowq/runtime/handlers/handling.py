"""Runs a handler on one delivery: bytes in, an outcome out. No exception of the user's code passes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

from flowq.delivery.edge import parse_address
from flowq.delivery.encoding.codec import Decode, decoder
from flowq.delivery.error_groups import meant_by
from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import (
    ROLLOUT_SECONDS,
    Failed,
    Outcome,
    Output,
    Succeeded,
    TimedOut,
    Undecodable,
    Unencodable,
    new_success,
)
from flowq.errors import BodyElsewhere, DecodeError, EncodeError, RetryLater, UnknownType, UsageError
from flowq.graph.compilation.matching import runtime_class
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import OutputRouter
from flowq.graph.compilation.stage_types import StageTypes
from flowq.graph.declaration.context import Context
from flowq.graph.kinds import Kind
from flowq.large_bodies.store import BodyStore, redeem
from flowq.printable import error_text, printable
from flowq.runtime.handlers.calling import MOST_OUTPUTS, SendingContext, bind, refuse_number, returns_encoded
from flowq.runtime.handlers.frames import clear_frames
from flowq.runtime.handlers.places import users_place
from flowq.runtime.handlers.threads import HandlerThreads
from flowq.runtime.handlers.versions import Versions
from flowq.world import REAL, World

Commit = Callable[[Delivery, Sequence[Output]], Awaitable[None]]
"""Settles a delivery while its handler is still running."""

_MOST_OUTPUT_BYTES = 64_000_000
_EQUALS = ord("=")  # to search bytes for b"=" takes seven times as long
_NOTHING = Succeeded(())
_FILTERED = Succeeded((), filtered=True)


class HandlerCancelled(Exception):
    """A handler ended because something that it awaited was cancelled, not the handler itself."""


class ManualAckMissing(Exception):
    """A handler of a stage with ack="manual" returned without `await ctx.ack()`."""


class Handling:
    """Handles the deliveries of one stage: decode, call, encode.

    `resources` are the opened values of the handler's `use()` parameters. A handler placed on threads runs on
    `threads`. `versions` decides whether a message that cannot be decoded may belong to another version. `claims` is
    the store of large bodies.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        router: OutputRouter,
        *,
        resources: Mapping[str, Any],
        threads: HandlerThreads | None = None,
        commit: Commit | None = None,
        versions: Versions | None = None,
        claims: BodyStore | None = None,
        world: World = REAL,
    ) -> None:
        self.stage = stage
        self._pipeline = plan.name
        self._router = router
        self._commit = commit
        self._decode_any = decoder(stage.accepts)
        self._types = StageTypes(stage, plan)
        self._versions = versions
        self._claims = claims
        self._time = world.time
        self._claiming = plan.claiming
        self._call, self._awaits = bind(stage, resources, threads, self._encoded)
        self._is_encoded = returns_encoded(stage.handler)
        self._threads = threads
        self._context = stage.handler.context_parameter
        # A NewType of a list is one message; any other list is one message per element.
        self._splits_lists = stage.handler.returns_list or list not in map(runtime_class, stage.emits)
        self._done = _NOTHING if stage.kind is Kind.SINK else _FILTERED
        self._timeout_seconds = stage.timeout_seconds
        self._is_plain = not (self._context or self._timeout_seconds or self._is_encoded)
        # So few outputs cannot exceed the limit in bytes: none is larger than its stage accepts.
        self._few = _MOST_OUTPUT_BYTES // max(stage.max_bytes for stage in plan.consumers)

    def decode(self, row: Row) -> Any:
        """The message of a delivery. Raises DecodeError."""
        if _EQUALS not in row[2]:
            return self._decode_any(row[3])
        delivery = Delivery(*row)
        if b" t=" not in delivery.header_bytes:
            return self._decode_any(delivery.content)
        content = delivery.content
        return self._decoder_by_tag(delivery)(content)

    def _decoder_by_tag(self, delivery: Delivery) -> Decode:
        tag = delivery.header.type_tag
        decode = self._types.decoder(tag)
        if decode is None and Any not in self.stage.accepted and delivery.age_seconds(self._time()) < ROLLOUT_SECONDS:
            # Its body may be valid for another type.
            raise UnknownType(
                f"{self.stage.name} does not accept {printable(tag)}", hint="run the version that sends it"
            )
        return decode or self._decode_any

    async def undecoded(self, error: DecodeError, delivery: Delivery) -> Outcome:
        """The outcome of a delivery that could not be decoded."""
        return Undecodable(error) if self._versions is None else await self._versions.judge(error, delivery)

    def handle(self, row: Row) -> Coroutine[Any, Any, Outcome]:
        """Handle one delivery. Raises nothing but cancellation."""
        # Not async: it decodes at once and returns the coroutine of the rest. One more coroutine would double the cost.
        try:
            message = self.decode(row) if _EQUALS in row[2] else self._decode_any(row[3])
        except BodyElsewhere:
            return self._handle_claimed(Delivery(*row))
        except DecodeError as error:
            return self.undecoded(error, Delivery(*row))
        return self.handle_message(message, row)

    async def _handle_claimed(self, delivery: Delivery) -> Outcome:
        try:
            message = await self.decode_claimed(delivery)
        except DecodeError as error:
            return await self.undecoded(error, delivery)
        return await self.handle_message(message, delivery)

    async def decode_claimed(self, delivery: Delivery) -> Any:
        """The message of a delivery whose body is in the claim store. Raises DecodeError.

        Called when its handler is about to start: bodies read ahead would fill the memory. The delivery itself keeps
        the reference, and so does its settlement.
        """
        return self.decode(await redeem(self._claims, delivery))

    async def handle_message(self, message: Any, row: Row) -> Outcome:
        """Handle a decoded message, or the messages of a batch whose first delivery stands for all."""
        context = self._new_context(Delivery(*row)) if self._context else None
        try:
            if self._is_plain:
                result = self._call(message)
                if self._awaits:
                    result = await result
            else:
                result, timed_out = await self._called(message, row, context)
                if timed_out:
                    return timed_out
            if result is None and context is None:
                return self._done
            # At once: other code may hold a reference to the value, and change it.
            outputs: list[Output] = (result or []) if self._is_encoded else self._encoded(row, result)
            if len(outputs) > self._few:
                check_bytes(outputs, self._claiming)
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            place = users_place(error)
            clear_frames(error)
            text = error_text(error) or "something that the handler awaited was cancelled"
            return Failed(HandlerCancelled(text), place)
        except EncodeError as error:
            return Unencodable(error)
        except BaseException as error:  # noqa: BLE001  (the user's code)
            return self.failed(error)
        finally:
            if context is not None:
                context.has_ended = True
        if context is None:
            return new_success((outputs, False, 0.0)) if outputs else self._done
        return self._succeeded(outputs, context)

    async def _called(self, message: Any, row: Row, context: SendingContext | None) -> tuple[Any, TimedOut | None]:
        """What the handler returns, or how its time ran out."""
        given = (message,) if context is None else (message, context)
        if self._is_encoded:
            given = (row, *given)
        if self._timeout_seconds is not None:
            return await self._within(self._timeout_seconds, given)
        result = self._call(*given)
        return (await result if self._awaits else result), None

    def _succeeded(self, outputs: list[Output], context: SendingContext) -> Outcome:
        if self.stage.ack == "manual" and not context.acked:
            return Failed(ManualAckMissing("the handler returned without `await ctx.ack()`"))
        outputs += context.outputs
        done = Succeeded(outputs) if outputs else self._done
        return done._replace(pace_seconds=context.pace_seconds) if context.pace_seconds else done

    def failed(self, error: BaseException) -> Failed:
        """The outcome of a handler that raised."""
        meant = meant_by(error)
        place = users_place(meant) or users_place(error)
        if meant is not error:
            clear_frames(error)
        if isinstance(meant, RetryLater) and meant.hold:
            return Failed(self._holding(meant, meant.hold), place)
        return Failed(meant, place)

    def _holding(self, error: RetryLater, hold: str) -> Exception:
        if (rate := self.stage.rate) is None:
            # Only a paced stage has keys to hold. Here the retry must count, or it could repeat forever.
            return RetryLater(error.reason, after=error.after)
        by = self.stage.name if rate.by is None else rate.by
        if callable(by) or hold == by:
            return error
        what = "has no by=" if rate.by is None else f'has by="{by}"'
        return UsageError(
            f'RetryLater(hold="{hold}"), but the rate of {self.stage.name} {what}',
            hint=f'write hold="{by}", or set by="{hold}" in the rate',
            place=self.stage.place,
        )

    def returned(self, values: Sequence[Any], delivery: Delivery) -> Outcome:
        """The outcome of a handler that returned these values for a batch whose first delivery is this one."""
        try:
            outputs = self._encoded(delivery, iter(values), is_iterator=True)
            check_bytes(outputs, self._claiming)
        except EncodeError as error:
            return Unencodable(error)
        return Succeeded(outputs) if outputs else self._done

    async def _within(self, seconds: float, given: tuple[Any, ...]) -> tuple[Any, TimedOut | None]:
        """The result, or how the time ran out. The handler's own TimeoutError is a failure like any other."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                result = self._call(*given)
                return (await result if self._awaits else result), None
        except TimeoutError as error:
            if not limit.expired():
                raise
            if self._threads is not None:
                self._threads.give_up_one()
            return None, TimedOut(seconds, users_place(error))

    def _encoded(self, row: Row, result: Any, *, is_iterator: bool = False) -> list[Output]:
        """Encode the result of a handler. An iterator is exhausted, and each value encoded as it comes."""
        if is_iterator:
            outputs = self._router.outputs(islice(result, MOST_OUTPUTS), row)
            for _ in result:
                refuse_number()
            return outputs
        if self._splits_lists and isinstance(result, list):
            values = cast("Sequence[Any]", result)
            if len(values) > MOST_OUTPUTS:
                refuse_number()
            return self._router.outputs(values, row)
        return self._router.outputs((result,), row)

    def _new_context(self, delivery: Delivery) -> SendingContext:
        header, is_manual = delivery.header, self.stage.ack == "manual"
        return SendingContext(
            lambda emitted: self._router.emitted([emitted], delivery)[0],
            pipeline=self._pipeline,
            is_paced=self.stage.rate is not None,
            stage=self.stage.name,
            message_id=header.message_id,
            attempt=header.attempt,
            settle=partial(self._settle_now, delivery, asyncio.Lock()) if is_manual else None,
        )

    async def _settle_now(self, delivery: Delivery, one_at_a_time: asyncio.Lock, context: Context) -> None:
        assert self._commit is not None
        assert isinstance(context, SendingContext)
        context.refuse_when_ended("ctx.ack()")
        async with one_at_a_time:
            outputs = tuple(context.outputs)
            await self._commit(delivery, outputs)
            del context.outputs[: len(outputs)], context.emitted[: len(outputs)]


def is_being_cancelled() -> bool:
    """Whether the current task itself is being cancelled. A handler process has no tasks."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is None or bool(task.cancelling())


def check_bytes(outputs: Sequence[Output], claiming: Mapping[str, int]) -> None:
    """Raise EncodeError for more bytes than one settlement may have. Bodies for the claim store do not count."""
    n_bytes = sum([len(output.body) for output in outputs])
    if n_bytes > _MOST_OUTPUT_BYTES and claiming:
        sizes = [(parse_address(output.edge).edge, len(output.body)) for output in outputs]
        n_bytes = sum(size for edge, size in sizes if size <= claiming.get(edge, size))
    if n_bytes > _MOST_OUTPUT_BYTES:
        raise EncodeError(
            f"the outputs of one message have {n_bytes:,} bytes, the limit is {_MOST_OUTPUT_BYTES:,} bytes",
            hint="split the message, or keep large bodies outside of Redis: claim_above= on the receiving stage",
        )
