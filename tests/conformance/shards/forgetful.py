"""A server that fails over right after one of its answers, to a replica which had not received that write yet."""

from __future__ import annotations

from typing import Any

from flowq.broker.client.connection import Dialer, Link

_SECONDS = 10.0


class ForgetfulDialer:
    """Connections to a server that answers the first request with a word, forgets it, and ends all connections."""

    def __init__(self, dialer: Dialer, word: bytes, pattern: str) -> None:
        """`pattern`: all keys that it has."""
        self.url, self.address, self.is_private = dialer.url, dialer.address, dialer.is_private
        self._dialer, self._word, self._pattern = dialer, word, pattern
        self._opened: list[Any] = []
        self.has_forgotten = False

    async def dial(self) -> Any:
        connection: Any = await self._dialer.dial()
        self._opened.append(connection)
        ask = connection.ask

        async def ask_and_forget(request: bytes, *rest: Any, **options: Any) -> list[Any]:
            if self.has_forgotten or self._word not in request:
                answers: list[Any] = await ask(request, *rest, **options)
                return answers
            self.has_forgotten = True
            link = Link(self._dialer)
            before = await self._stored(link)
            answers = await ask(request, *rest, **options)
            await self._restore(link, before)
            await link.close()
            for each in self._opened:
                await each.close()
            return answers

        connection.ask = ask_and_forget
        return connection

    async def _stored(self, link: Link) -> dict[bytes, bytes]:
        keys = await link.call(b"KEYS", self._pattern, timeout_seconds=_SECONDS)
        return {key: await link.call(b"DUMP", key, timeout_seconds=_SECONDS) for key in keys}

    async def _restore(self, link: Link, stored: dict[bytes, bytes]) -> None:
        for key in await link.call(b"KEYS", self._pattern, timeout_seconds=_SECONDS):
            await link.call(b"DEL", key, timeout_seconds=_SECONDS)
        for key, dump in stored.items():
            await link.call(b"RESTORE", key, 0, dump, timeout_seconds=_SECONDS)
