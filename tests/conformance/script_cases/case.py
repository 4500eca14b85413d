"""What a case of a script is: a laboratory in, calls of the script as flowq makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from flowq.broker.keys import Keys
from flowq.broker.scripts import Script
from tests.conformance.conftest import Command
from tests.conformance.worker import Worker, buried, retried

NEW = ">tidy"


@dataclass
class Lab:
    """Two workers, one of which is gone in some cases, and direct access to Redis."""

    worker: Worker
    other: Worker
    keys: Keys
    redis: Command

    async def letters(self, n: int = 2) -> list[str]:
        """Make dead letters of `parse`; their ids."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(n)])
        await self.worker.settle(*[buried(delivery) for delivery in await self.worker.read(n)])
        return [item[0].decode() for item in await self.redis(b"XRANGE", self.keys.dead("parse"), b"-", b"+")]

    async def leave(self) -> None:
        """Let the other worker read three messages and lose its lease."""
        await self.worker.publish(b"1", b"2", b"3")
        await self.other.read(3)
        await self.redis(b"DEL", self.keys.lease(self.other.name))

    async def delayed(self, delay_ms: int = 60_000) -> None:
        """Put messages in every state: two waiting, two running, two delayed."""
        await self.worker.publish(*[b'{"n":%d}' % i for i in range(4)])
        await self.worker.settle(*[retried(delivery, delay_ms) for delivery in await self.worker.read(2)])
        await self.worker.read(2)
        await self.worker.publish(b"1", b"2")


Case = Callable[[Lab], Awaitable[Any]]
CASES: dict[str, Case] = {}


def calls(script: Script) -> Callable[[Case], Case]:
    """The decorated case calls this script, last where it calls several."""

    def add(case: Case) -> Case:
        CASES[script.name] = case
        return case

    return add
