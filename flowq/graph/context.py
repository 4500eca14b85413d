"""What a handler may know about its delivery, and do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from flowq.delivery.durations import seconds
from flowq.errors import UsageError
from flowq.graph.flow import Accepts

X = TypeVar("X")

LONGEST_PACE_ASKED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Emitted:
    """A message that a handler sends to a stage of its choice."""

    stage: str
    message: Any
    delay_seconds: float = 0.0


class Context:
    """The delivery at hand. A handler gets it by a parameter annotated with `Context`.

    `attempt` counts from 1. `message_id` stays the same over retries and replays: use it as idempotency key
    where your handler has effects outside. `emitted` holds what `emit` collected since the last settlement.

    A handler is tested without flowq:

    >>> ctx = Context(message_id="m1", attempt=2)
    >>> ctx.attempt, ctx.message_id
    (2, 'm1')
    """

    __slots__ = (
        "_settle",
        "acked",
        "attempt",
        "emitted",
        "is_paced",
        "message_id",
        "pace_seconds",
        "pipeline",
        "stage",
    )

    def __init__(
        self,
        *,
        attempt: int = 1,
        message_id: str = "",
        pipeline: str = "",
        stage: str = "",
        settle: Callable[[Context], Awaitable[None]] | None = None,
        is_paced: bool = True,
    ) -> None:
        self.attempt = attempt
        self.message_id = message_id
        self.pipeline = pipeline
        self.stage = stage
        self.emitted: list[Emitted] = []
        self.acked = False
        self.pace_seconds = 0.0
        self.is_paced = is_paced
        self._settle = settle

    def emit(self, to: Accepts[X], message: X, *, delay: float | str = 0) -> Awaitable[None]:
        """Send `message` to the stage `to`, after `delay` (seconds, or text such as "5m").

        It leaves with the outputs of the handler, in the step that settles the delivery: a handler that fails
        sends nothing. `to` must be a stage of the same pipeline; no `>>` between the two is needed. The
        message is sent as it is now, whatever is changed in it later. A handler that is no coroutine calls this
        without `await`.

        Raises UsageError if `to` is not one stage, ValueError for a delay that is none, EncodeError for a message
        that the stage does not take.
        """
        name = getattr(to, "name", None)
        if name is None:
            raise UsageError(f"ctx.emit() cannot send to {to!r}", hint="name one stage: ctx.emit(fetch, message)")
        self._note(Emitted(name, message, seconds(delay)))
        return _NOTED

    def _note(self, emitted: Emitted) -> None:
        self.emitted.append(emitted)

    def pace(self, interval: float | str) -> None:
        """Start messages of this pacing key no sooner than `interval` (seconds, or "10s") after one another.

        For what a server asks of its clients, such as Crawl-delay in robots.txt. It holds over all workers beside the
        `rate=` of the stage, from when this handler has succeeded, and for an hour after the last start of the key: say
        it for every message. An hour is also the longest interval.

        Raises UsageError in a stage without `rate=`, ValueError for an interval that is none.
        """
        if not self.is_paced:
            raise UsageError("ctx.pace() in a stage without a rate", hint="declare it @stage(rate=Rate(..., by=...))")
        self.pace_seconds = min(seconds(interval), LONGEST_PACE_ASKED_SECONDS)

    async def ack(self) -> None:
        """Settle the delivery now, together with what was emitted so far. For stages with ack="manual".

        Called again, it sends what was emitted since. When it returns, that is stored. Raises UsageError in any other
        stage, and DeliveryLost when the message has been given to another worker, which will run it: let that pass.
        """
        if self._settle is None:
            raise UsageError("ctx.ack() in a stage that settles by itself", hint='declare it @stage(ack="manual")')
        await self._settle(self)
        self.acked = True


class _Noted:
    """Awaitable and done. Unlike a coroutine it may be dropped: a forgotten `await` loses no message."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_NOTED = _Noted()
