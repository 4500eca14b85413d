"""Stops the stages of a process from reading while they are paused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.pauses import paused_since
from flowq.broker.records import WHOLE
from flowq.broker.redis_streams import Broker
from flowq.runtime.stage.stage_runner import StageRunner

log = logging.getLogger("flowq.runtime")

_LOOK_EVERY_SECONDS = 0.5


class Pauses:
    """The current pauses, looked up twice a second for the whole process, never per message."""

    def __init__(self, broker: Broker, stages: Sequence[StageRunner]) -> None:
        self._broker = broker
        self._stages = stages
        self._paused: Collection[str] = ()

    def is_paused(self, stage: str) -> bool:
        """Whether this stage was paused at the last look."""
        return bool(self._paused) and (stage in self._paused or WHOLE in self._paused)

    async def while_paused(self, stage: str) -> None:
        """Wait while this stage is paused."""
        while self.is_paused(stage):  # noqa: ASYNC110  (only the next look can show it)
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Read the pauses, and apply them to the stages."""
        self._paused = await retry_until_available(lambda: paused_since(self._broker), what="reading the pauses")
        for runner in self._stages:
            await runner.set_paused(self.is_paused(runner.stage.name))

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
