"""Opens what handlers use, once per process, and closes it in reverse order."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from flowq.errors import FlowqError
from flowq.graph.declaration.resource import Resource
from flowq.printable import error_repr

if TYPE_CHECKING:
    from flowq.runtime.run import Summary

KEEPER_OF_RESOURCES = "resources"
"""The name of the task that opens and closes them."""
_LAST_WAIT_SECONDS = 1.0


class ResourceFailed(FlowqError):
    """A resource could not be opened, or failed to close. `summary` describes the run if it has ended."""

    code = "FQ301"
    summary: Summary | None = None


class Resources:
    """The opened resources of a process. Close it after the last handler has finished.

    A task of their own opens and closes them: cancel scopes must be left in the task that entered them, and a resource
    that does not close can be abandoned. Run handlers in copies of `context`, which holds what resources have set.
    `broken` raises when a resource ends early, such as one whose task group has a failed task.
    """

    broken: asyncio.Future[None]

    def __init__(self) -> None:
        self.context = copy_context()
        self._to_close: list[tuple[Resource[Any], AsyncExitStack]] = []
        self._opened: dict[int, Any] = {}
        self._closing = asyncio.Event()
        self._is_opening = False
        self._closing_now: Resource[Any] | None = None
        self._keeper: asyncio.Task[ResourceFailed | None] | None = None

    async def open_all(self, resources: Iterable[Resource[Any]]) -> None:
        """Open each of them and the resources that they require. Raises ResourceFailed."""
        opening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken = asyncio.get_running_loop().create_future()
        self._is_opening = True
        self._keeper = asyncio.create_task(self._keep(tuple(resources), opening), name=KEEPER_OF_RESOURCES)
        await opening

    def values(self, parameters: Mapping[str, Resource[Any]]) -> dict[str, Any]:
        """The opened values for the `use()` parameters of a handler."""
        return {name: self._opened[id(resource)] for name, resource in parameters.items()}

    async def close(self, seconds: float = math.inf, hurry: asyncio.Event | None = None) -> None:
        """Close them all in reverse order, and then raise ResourceFailed for the first that failed.

        One that has not closed within `seconds`, or when `hurry` is set, is cancelled, and then abandoned. One that is
        still being opened is cancelled at once.
        """
        if (keeper := self._keeper) is None:
            return
        self._closing.set()
        if self._is_opening:
            keeper.cancel()
        hurrying = asyncio.create_task((hurry or asyncio.Event()).wait())
        limit = None if seconds == math.inf else seconds
        await asyncio.wait([keeper, hurrying], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not keeper.done():
            unclosed = self._unclosed()
            keeper.cancel()  # the remaining ones are closed after it
            await asyncio.wait([keeper], timeout=_LAST_WAIT_SECONDS)
            raise unclosed
        if not keeper.cancelled() and (failed := keeper.result()) is not None:
            raise failed

    def _unclosed(self) -> ResourceFailed:
        resource = self._closing_now
        name, place = ("", None) if resource is None else (resource.name, resource.place)
        return ResourceFailed(
            f'resource "{name}" did not close within the grace period, and was abandoned',
            hint="add a timeout to it: what it waits for may never come",
            place=place,
        )

    async def _keep(self, resources: Sequence[Resource[Any]], opening: asyncio.Future[None]) -> ResourceFailed | None:
        """Open them, wait, and close them again. Returns the first that failed to close."""
        try:
            for resource in resources:
                await self._open(resource)
        except BaseException as error:  # noqa: BLE001  (passed to the caller of open_all)
            self._is_opening = False
            if not opening.done():
                opening.set_exception(error)
        else:
            self.context, self._is_opening = copy_context(), False
            if not opening.done():
                opening.set_result(None)
            await self._until_closing()
        return await self._close()

    async def _until_closing(self) -> None:
        """Wait, even if this task is cancelled: resources are closed in order, after the last handler."""
        while not self._closing.is_set():
            try:
                await self._closing.wait()
            except asyncio.CancelledError:  # by the task group of a resource, which raises the cause when closed
                if not self.broken.done():
                    text = "a background task of a resource has failed, so handlers cannot continue"
                    self.broken.set_exception(ResourceFailed(text))
                    self.broken.exception()  # retrieved: asyncio need not warn

    async def _open(self, resource: Resource[Any]) -> Any:
        if id(resource) in self._opened:
            return self._opened[id(resource)]
        required = {name: await self._open(needed) for name, needed in resource.requires.items()}
        try:
            value = await self._enter(resource, required)
        except BaseException as error:
            if isinstance(error, ResourceFailed) or _ends_us(error):
                raise
            raise ResourceFailed(
                f'resource "{resource.name}" could not be opened: {error_repr(error)}', place=resource.place
            ) from error
        self._opened[id(resource)] = value
        return value

    async def _enter(self, resource: Resource[Any], required: Mapping[str, Any]) -> Any:
        stack = AsyncExitStack()
        self._to_close.append((resource, stack))
        open_it: Callable[..., Any] = resource.fn
        value: Any = open_it(**required)
        # Decided by the returned value: a generator function may be wrapped, or be a partial.
        if inspect.isasyncgen(value):
            return await stack.enter_async_context(asynccontextmanager(partial(_itself, value))())
        if inspect.isgenerator(value):
            return stack.enter_context(contextmanager(partial(_itself, value))())
        if isinstance(value, _MADE_BY_ASYNCCONTEXTMANAGER):
            return await stack.enter_async_context(value)
        if isinstance(value, _MADE_BY_CONTEXTMANAGER):
            return stack.enter_context(value)
        return await value if inspect.isawaitable(value) else value

    async def _close(self) -> ResourceFailed | None:
        failed: ResourceFailed | None = None
        while self._to_close:
            resource, stack = self._to_close.pop()
            self._closing_now = resource
            try:
                await stack.aclose()  # with one stack for all, the failure of one would be thrown into the others
            except BaseException as error:  # noqa: BLE001  (the user's code)
                text = f'resource "{resource.name}" failed to close: {error_repr(error)}'
                failed = failed or ResourceFailed(text, place=resource.place)
        return failed

    CALLS_USERS_CODE = _enter.__code__, _close.__code__  # to be recognized in a call stack


def _ends_us(error: BaseException) -> bool:
    """Whether it is Ctrl-C or the cancellation of this task, and not an error of the user's code."""
    task = asyncio.current_task()
    is_cancelled = isinstance(error, asyncio.CancelledError) and task is not None and bool(task.cancelling())
    return is_cancelled or isinstance(error, KeyboardInterrupt)


def _itself(value: Any) -> Any:
    return value


@asynccontextmanager
async def _async_example() -> AsyncGenerator[None]:
    yield


@contextmanager
def _example() -> Generator[None]:
    yield


# Any other context manager is an ordinary value: whether a client is entered is up to its user.
_MADE_BY_ASYNCCONTEXTMANAGER: type[Any] = type(_async_example())
_MADE_BY_CONTEXTMANAGER: type[Any] = type(_example())
