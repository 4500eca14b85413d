"""Asks all shards of a pipeline at once, and names those that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flowq.broker.client.redis_errors import translate
from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SilentShard:
    """A shard that does not answer: what it holds is unknown, and must not be taken for nothing."""

    shard: int
    address: str
    error: BrokerUnavailable

    def __str__(self) -> str:
        return f"shard {self.shard} at {self.address} does not answer"

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"shard": self.shard, "address": self.address, "error": self.error.message}

    def as_error(self) -> BrokerUnavailable:
        """The error for a caller that needs all shards."""
        hint = self.error.hint or "see whether it runs"
        detail = ": ".join(filter(None, (self.error.message, self.error.detail)))
        error = BrokerUnavailable(str(self), hint=hint, detail=detail)
        error.server = self.error.server
        return error


def server_of(broker: Broker) -> str:
    """Where a shard is: the address to which its last connection was made, or that of the URL."""
    return broker.dialer.address.removesuffix(f" (shard {broker.shard})")


OnSilent = Callable[[SilentShard], None]
"""Called with each shard that does not answer, by what can do without it."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """The answers of all shards that gave one, by shard, and those that gave none."""

    by_shard: Mapping[int, T]
    silent: Sequence[SilentShard] = ()

    @property
    def whole(self) -> list[T]:
        """The answers of all shards, in order. Raises BrokerUnavailable, which names the shard, if one gave none."""
        return list(self.known(None).values())

    def known(self, on_silent: OnSilent | None) -> Mapping[int, T]:
        """The answers by shard. Those that gave none are passed to `on_silent`; without it, this raises as `whole`."""
        for each in self.silent:
            if on_silent is None:
                raise each.as_error()
            on_silent(each)
        return self.by_shard


VIEW_PATIENCE_SECONDS = 3.0
"""How long a view waits for the other shards once one has answered: an outage is what people look at."""


async def ask_every_shard(
    broker: Broker,
    ask: Callable[[Broker], Awaitable[T]],
    *,
    patience_seconds: float | None = None,
    except_for: Collection[int] = (),
) -> Answers[T]:
    """Ask all shards of the pipeline of `broker` at the same time.

    With one shard this is `ask(broker)`, and raises what that raises. With several, BrokerUnavailable is raised only
    if none of them answers; other errors of any shard are raised. `patience_seconds`, for calls that change nothing:
    the shards that do not answer within that time after the first are silent, and their calls are cancelled. The shards
    in `except_for` are not asked.
    """
    if len(broker.shards) == 1:
        return Answers({broker.shard: await ask(broker)})
    shards = [shard for shard in broker.shards if shard.shard not in except_for]
    asking = [asyncio.ensure_future(ask(shard)) for shard in shards]
    if patience_seconds is not None:
        await _cancel_late(asking, patience_seconds)
    replies = await asyncio.gather(*asking, return_exceptions=True)
    found: dict[int, T] = {}
    silent: list[SilentShard] = []
    for shard, reply in zip(shards, replies, strict=True):
        if isinstance(reply, asyncio.CancelledError):
            reply = translate(TimeoutError(), shard.dialer.address)
        if isinstance(reply, BrokerUnavailable):
            silent.append(SilentShard(shard.shard, server_of(shard), reply))
        elif isinstance(reply, BaseException):
            raise reply
        else:
            found[shard.shard] = reply
    if not found:
        raise silent[0].error
    return Answers(found, silent)


async def ask_for_a_view(
    broker: Broker, ask: Callable[[Broker], Awaitable[T]], silent: dict[int, SilentShard] | None
) -> Mapping[int, T]:
    """The answers by shard for a view that asks again and again. Raises as `Answers.whole` if `silent` is None.

    Else shards that do not answer are added to `silent`, and those in it are not asked: each question would take as
    long as the patience of a view.
    """
    if silent is None:
        return (await ask_every_shard(broker, ask)).known(None)
    answers = await ask_every_shard(broker, ask, patience_seconds=VIEW_PATIENCE_SECONDS, except_for=silent)
    silent.update({each.shard: each for each in answers.silent})
    return answers.by_shard


async def _cancel_late(asking: Collection[asyncio.Future[T]], patience_seconds: float) -> None:
    """Cancel what has not ended this long after the first has brought an answer."""
    waiting = set(asking)
    try:
        while waiting and not any(each.done() and not each.exception() for each in asking):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            await asyncio.wait(waiting, timeout=patience_seconds)
    finally:
        for each in asking:
            each.cancel()


def shards_text(shards: Sequence[int]) -> str:
    """Shards as people write them.

    >>> shards_text([3]), shards_text([0, 2, 5])
    ('shard 3', 'shards 0, 2, 5')
    """
    return f"shard{'s' * (len(shards) != 1)} {', '.join(map(str, sorted(shards)))}"
