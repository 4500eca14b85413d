"""A message that comes to an idle stage reaches its handler before the stage asks for more."""

from __future__ import annotations

from typing import Any

from flowq import Pipeline, stage
from flowq.broker import scripts
from flowq.broker.client.connection import UrlDialer
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab

N = 20


class Observed:
    """A connection that notes its reads, those that have brought something, and settlements."""

    def __init__(self, connection: Any, events: list[str]) -> None:
        self._connection, self._events = connection, events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def ask(self, request: bytes, n_replies: int, **options: Any) -> list[Any]:
        is_read = b"XREADGROUP" in request and b"BLOCK" in request
        if is_read:
            self._events.append("read")
        replies: list[Any] = await self._connection.ask(request, n_replies, **options)
        if is_read and replies[0]:
            self._events.append("brought")
        is_settle = scripts.SETTLE.digest in request or scripts.SETTLE.text in request
        if is_settle and not isinstance(replies[0], Exception):
            self._events.append("settled")
        return replies


class ObservedDialer(UrlDialer):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.events: list[str] = []

    async def dial(self) -> Any:
        return Observed(await super().dial(), self.events)


async def test_a_lone_message_is_handled_before_the_next_read_is_sent(redis_url: str, unique_namespace: str) -> None:
    dialer = ObservedDialer(redis_url)

    @stage
    async def take(item: Item) -> None:
        dialer.events.append("handled")

    pipeline, lab = Pipeline("lone", take), Lab(dialer, unique_namespace)
    async with lab.running(pipeline):
        for n in range(1, N + 1):
            await lab.push(pipeline, take, Item(n=n))
            await eventually(lambda least=n: dialer.events.count("handled") == least <= dialer.events.count("settled"))
    await lab.close()

    after_each = {after for event, after in zip(dialer.events, dialer.events[1:], strict=False) if event == "brought"}
    assert after_each == {"handled"}
