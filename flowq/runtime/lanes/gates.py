"""The slots of each stage, shared by all lanes of a process."""

from __future__ import annotations

import asyncio

from flowq.graph.compilation.plan import StagePlan


class Gates:
    """A semaphore for each stage: `concurrency` is for the process, however many shards it serves."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Semaphore] = {}

    def of(self, stage: StagePlan) -> asyncio.Semaphore:
        """The one of a stage."""
        if stage.name not in self._gates:
            self._gates[stage.name] = asyncio.Semaphore(stage.concurrency)
        return self._gates[stage.name]
