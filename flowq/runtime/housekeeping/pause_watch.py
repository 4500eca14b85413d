"""Stops the stages of a process from reading while they are paused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.flow_control.pauses import Pauses
from flowq.broker.records import WHOLE
from flowq.broker.redis_streams import Broker
from flowq.runtime.stage.stage_runner import StageRunner

_EVERY_SECONDS = 0.5


class PauseWatch:
    """The current pauses, read twice a second for the whole process, never per message."""

    name = "pause watch"

    def __init__(self, broker: Broker, runners: Sequence[StageRunner]) -> None:
        self._broker = broker
        self._runners = [*runners]
        self._paused: Collection[str] = ()

    def is_paused(self, stage: str) -> bool:
        """Whether this stage was paused at the last look."""
        return bool(self._paused) and (stage in self._paused or WHOLE in self._paused)

    async def while_paused(self, stage: str) -> None:
        """Wait while this stage is paused."""
        while self.is_paused(stage):
            await self._broker.world.pause(_EVERY_SECONDS)

    async def add(self, runners: Sequence[StageRunner]) -> None:
        """Apply the pauses to these stages too, from now on."""
        self._runners += runners
        await self._apply(runners)

    def remove(self, runners: Sequence[StageRunner]) -> None:
        """Leave these stages alone: they have stopped."""
        self._runners = [each for each in self._runners if each not in runners]

    async def _apply(self, runners: Sequence[StageRunner]) -> None:
        for runner in runners:
            await runner.set_paused(self.is_paused(runner.stage.name))

    async def step(self) -> float:
        """Read the pauses, and apply them to the stages."""
        self._paused = await retry_until_available(
            self._broker.world, Pauses(self._broker).since, what="reading the pauses"
        )
        await self._apply(self._runners)
        return _EVERY_SECONDS
