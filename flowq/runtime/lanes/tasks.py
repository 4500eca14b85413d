"""Tasks that must keep running for as long as their owner does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from flowq.errors import FlowqError


class LastingTasks:
    """Tasks of a process. `on_failure` gets the error of one that has ended before `is_stopping` was set."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self.is_stopping = False
        self._on_failure = on_failure
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run this until `cancel`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        self.watch(task)
        return task

    def watch(self, task: asyncio.Future[None]) -> None:
        """Report the error of this one, too."""
        task.add_done_callback(self._on_end)

    async def cancel(self) -> None:
        """Cancel what was spawned here, and wait for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_end(self, task: asyncio.Future[None]) -> None:
        if isinstance(task, asyncio.Task) and task.cancelled():
            error: BaseException | None = None if self.is_stopping else TaskCancelled(task.get_name())
        else:
            error = task.exception()
        if error is not None:
            self._on_failure(error)


class TaskCancelled(FlowqError):
    """The user's code has cancelled a task of flowq, so that the run cannot continue."""

    code = "FQ306"

    def __init__(self, task: str) -> None:
        super().__init__(
            f'the task "{task}" of flowq was cancelled by code in this process',
            hint="cancel only tasks that you have started; asyncio.all_tasks() returns others as well",
        )
