"""Makes calls one after the other, each under way while its caller prepares the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from flowq.world import REAL

T = TypeVar("T")

_SLOW_SECONDS = 1.0


class CallsInTurn(Generic[T]):
    """Makes each call once the previous one has returned. Use it in an `async with`, which waits for the last call.

    If a call fails, the next `start` raises its error, or else the end of the block does, even if the caller itself has
    failed while it prepared the next call. If the caller is cancelled, so is the call under way.
    """

    def __init__(self, now: Callable[[], float] = REAL.monotonic) -> None:
        self.results: list[T] = []
        self._under_way: asyncio.Task[T] | None = None
        self._now = now
        self._since = now()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, Exception):
            await self._end()
        elif self._under_way is not None:
            self._under_way.add_done_callback(_retrieve_error)
            self._under_way.cancel()
            if isinstance(error, asyncio.CancelledError):
                await asyncio.wait([self._under_way])

    async def start(self, call: Coroutine[Any, Any, T]) -> None:
        """Make a call once the previous one has returned. Returns as soon as it is under way."""
        # A slow caller may block the loop, which would then read replies so late that they count as lost.
        is_slow = self._now() - self._since > _SLOW_SECONDS
        try:
            await self._end()
        except BaseException:
            call.close()
            raise
        self._under_way = asyncio.create_task(call)
        await asyncio.sleep(0)  # so that it is sent before the caller goes on
        if is_slow:
            await self._end()
        self._since = self._now()

    async def _end(self) -> None:
        if self._under_way is not None:
            try:
                self.results.append(await self._under_way)
            finally:
                self._under_way = None


def _retrieve_error(call: asyncio.Task[Any]) -> None:
    """Look at an error that no caller waits for any more: asyncio would log it as never retrieved."""
    if not call.cancelled():
        call.exception()
