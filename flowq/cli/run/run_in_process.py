"""Runs the stages of `flowq run` in its own process."""

from __future__ import annotations

import asyncio
import os

from flowq.runtime.process.gc_tuning import tune_gc
from flowq.runtime.process.runner import Runner
from flowq.runtime.resources import ResourceFailed


class InProcess:
    """Runs the stages in this very process, for a debugger and for `--memory`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.failed = runner.ended
        self.unclosed: ResourceFailed | None = None

    @property
    def pids(self) -> list[int]:
        """This process."""
        return [os.getpid()]

    async def start(self) -> None:
        await self._runner.start()
        tune_gc()

    async def stop(self, hurry: asyncio.Event) -> None:
        try:
            await self._runner.stop(hurry)
        except ResourceFailed as error:  # shown after the balance
            self.unclosed = error
