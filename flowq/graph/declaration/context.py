"""The context of a handler: what it can know about its delivery, and do with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from flowq.durations import seconds
from flowq.errors import UsageError
from flowq.graph.declaration.flow import Accepts

X = TypeVar("X")

LONGEST_PACE_ASKED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Emitted:
    """A message that a handler sends to a stage of its choice."""

    stage: str
    message: Any
    delay_seconds: float = 0.0


class Context:
    """The delivery that a handler is working on. A handler gets it as a parameter annotated with `Context`.

    `attempt` counts from 1. `message_id` stays the same across retries and replays: use it as an idempotency key if
    your handler has side effects. `emitted` holds what `emit` collected since the last settlement.

    A handler can be tested without flowq:

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

        It is sent together with the outputs of the handler, atomically with the settlement of the delivery: a handler
        that fails sends nothing. `to` must be a stage of the same pipeline; no `>>` between the two is needed. Later
        changes to the message object have no effect. A handler that is not a coroutine calls this without `await`.

        Raises UsageError if `to` is not a single stage, ValueError for an invalid delay, EncodeError for a message
        that the stage does not accept.
        """
        name = getattr(to, "name", None)
        if name is None:
            raise UsageError(f"ctx.emit() cannot send to {to!r}", hint="name one stage: ctx.emit(fetch, message)")
        self._note(Emitted(name, message, seconds(delay)))
        return _NOTED

    def _note(self, emitted: Emitted) -> None:
        self.emitted.append(emitted)

    def pace(self, interval: float | str) -> None:
        """Start messages with this pacing key at least `interval` (seconds, or "10s") apart.

        For a delay that a server asks its clients to keep, such as Crawl-delay in robots.txt. It applies across all
        workers, in addition to the `rate=` of the stage, once this handler has succeeded. It expires an hour after the
        last start of the key, so call it for every message. Longer intervals than an hour are cut to an hour.

        Raises UsageError in a stage without `rate=`, ValueError for an invalid interval.
        """
        if not self.is_paced:
            raise UsageError("ctx.pace() in a stage without a rate", hint="declare it @stage(rate=Rate(..., by=...))")
        self.pace_seconds = min(seconds(interval), LONGEST_PACE_ASKED_SECONDS)

    async def ack(self) -> None:
        """Settle the delivery now, together with what was emitted so far. For stages with ack="manual".

        Called again, it sends what was emitted since. When it returns, everything is stored. Raises UsageError in any
        other stage, and DeliveryLost if another worker has taken the message over and will run it: do not catch that.
        """
        if self._settle is None:
            raise UsageError("ctx.ack() in a stage that settles automatically", hint='declare it @stage(ack="manual")')
        await self._settle(self)
        self.acked = True


class _Noted:
    """An awaitable that is already done. Unlike a coroutine it may be dropped: a forgotten `await` loses nothing."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_NOTED = _Noted()
