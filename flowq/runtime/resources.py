"""Opens what handlers use, once per process, and closes it in reverse order."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from flowq.errors import FlowqError
from flowq.graph.resource import Resource


class ResourceFailed(FlowqError):
    """A resource could not be opened, or failed to close."""

    code = "FQ301"


class Resources:
    """The opened resources of a process. Close it after the last handler has finished."""

    def __init__(self) -> None:
        self._to_close: list[tuple[Resource[Any], AsyncExitStack]] = []
        self._opened: dict[int, Any] = {}

    async def open_all(self, resources: Iterable[Resource[Any]]) -> None:
        """Open each of them and what they require. Raises ResourceFailed."""
        for resource in resources:
            await self._open(resource)

    def values(self, parameters: Mapping[str, Resource[Any]]) -> dict[str, Any]:
        """The opened values for the `use()` parameters of a handler."""
        return {name: self._opened[id(resource)] for name, resource in parameters.items()}

    async def _open(self, resource: Resource[Any]) -> Any:
        if id(resource) in self._opened:
            return self._opened[id(resource)]
        required = {name: await self._open(needed) for name, needed in resource.requires.items()}
        try:
            value = await self._enter(resource, required)
        except BaseException as error:
            if _ends_us(error):
                raise
            raise ResourceFailed(
                f'resource "{resource.name}" could not be opened: {error!r}', place=resource.place
            ) from error
        self._opened[id(resource)] = value
        return value

    async def _enter(self, resource: Resource[Any], required: Mapping[str, Any]) -> Any:
        fn, stack = resource.fn, AsyncExitStack()
        self._to_close.append((resource, stack))
        if inspect.isasyncgenfunction(fn):
            return await stack.enter_async_context(asynccontextmanager(fn)(**required))
        if inspect.isgeneratorfunction(fn):
            return stack.enter_context(contextmanager(fn)(**required))
        value = fn(**required)
        return await value if inspect.isawaitable(value) else value

    async def close(self) -> None:
        """Close them all in reverse order, and then raise ResourceFailed for the first that failed."""
        failed: ResourceFailed | None = None
        while self._to_close:
            resource, stack = self._to_close.pop()
            try:
                await stack.aclose()  # one stack for all would throw the failure of one into the others
            except BaseException as error:
                if _ends_us(error):
                    raise
                text = f'resource "{resource.name}" failed to close: {error!r}'
                failed = failed or ResourceFailed(text, place=resource.place)
        if failed is not None:
            raise failed


def _ends_us(error: BaseException) -> bool:
    """Whether it was Ctrl-C, or the cancellation of this very task, and nothing that the user's code has raised."""
    task = asyncio.current_task()
    is_cancelled = isinstance(error, asyncio.CancelledError) and task is not None and bool(task.cancelling())
    return is_cancelled or isinstance(error, KeyboardInterrupt)
