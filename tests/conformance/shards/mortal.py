"""Connections of a process that dies at one of its requests: before it is sent, or when it has been answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from flowq.broker.client.connection import Dialer


@dataclass(eq=False)
class MortalDialer:
    """Connections that cancel `victim` at one of the requests."""

    dialer: Dialer
    n_requests_left: int
    victim: asyncio.Task[Any] | None = None

    def __post_init__(self) -> None:
        self.url, self.address, self.is_private = self.dialer.url, self.dialer.address, self.dialer.is_private

    async def dial(self) -> Any:
        return _Mortal(await self.dialer.dial(), self)


class _Mortal:
    """A connection as flowq uses one."""

    def __init__(self, connection: Any, process: MortalDialer) -> None:
        self._connection, self._process = connection, process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def ask(self, request: bytes, n_replies: int, **options: Any) -> list[Any]:
        process = self._process
        process.n_requests_left -= 1
        if process.n_requests_left <= 0:
            if process.n_requests_left == 0 and len(request) % 2:  # the answer is lost
                await self._connection.ask(request, n_replies, **options)
            if process.victim is not None:
                process.victim.cancel()
            raise ConnectionResetError
        answers: list[Any] = await self._connection.ask(request, n_replies, **options)
        return answers
