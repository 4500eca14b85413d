"""One open stream, with the few events that it has not sent yet."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncGenerator

from flowq.dashboard.live.page_changes import BEAT, BYE, Changes, Event

BEAT_SECONDS = 15.0
_WAITING = 2
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_LAST_BLOCK = b"\x03\x00"


class Viewer:
    """Reads the changes of one pipeline as fast as its connection can. One that falls behind gets everything anew."""

    def __init__(self, changes: Changes, last_id: str, *, is_packed: bool) -> None:
        self._changes = changes
        self._last_id = last_id
        self._is_packed = is_packed
        self._waiting: deque[Event] = deque()
        self._is_behind = False
        self._is_over = False
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Something has changed."""
        if len(self._waiting) == _WAITING:
            self._waiting.clear()
            self._is_behind = True
        if not self._is_behind:
            self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """The server stops: say so, and send no more."""
        self._is_over = True
        self._news.set()

    async def stream(self) -> AsyncGenerator[bytes]:
        """The bytes to send."""
        if not self._is_packed:
            async for event in self._events():
                yield event.plain
            return
        check, n_bytes = 0, 0
        yield _GZIP_HEADER
        async for event in self._events():
            check, n_bytes = zlib.crc32(event.plain, check), n_bytes + len(event.plain)
            yield event.packed
        yield _GZIP_LAST_BLOCK + check.to_bytes(4, "little") + (n_bytes & 0xFFFFFFFF).to_bytes(4, "little")

    async def _events(self) -> AsyncGenerator[Event]:
        if self._changes.is_empty:
            self._is_behind = True
        else:
            yield self._changes.since(self._last_id)
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                yield BEAT
                continue
            self._news.clear()
            if self._is_over:
                yield BYE
                return
            if self._is_behind:
                self._is_behind = False
                yield self._changes.full
            while self._waiting and not self._is_behind:
                yield self._waiting.popleft()
