"""The publisher for programs without asyncio: its event loop runs in a thread while the publisher is open."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowq.delivery.policy import Durability
from flowq.errors import UsageError
from flowq.graph.declaration.flow import Accepts
from flowq.publisher import Publisher, Pushed
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline

M = TypeVar("M")
T = TypeVar("T")

_REMEDY = "with publisher: ..."


class SyncPublisher:
    """A `Publisher` for programs without asyncio, such as Flask and Django. Threads may share it.

    It makes the same promises, accepts the same parameters and raises the same errors as `Publisher`.

    Several threads may enter the same publisher: the first opens it, the last closes it, and it can be reopened. One
    that is never entered, as in a web app, opens at its first push and stays open until the process ends. A
    forked process, such as a web server's worker, must open it again.

    >>> from flowq import Pipeline, stage
    >>> @stage
    ... def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> with SyncPublisher(Pipeline("greetings", greet), redis="memory") as publisher:
    ...     publisher.push(greet, "Ada", id="ada")
    'ada'
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        redis: str | None = None,
        namespace: str | None = None,
        durability: Durability | None = None,
        claim_store: str | Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._publisher = Publisher(
            pipeline,
            redis=redis,
            namespace=namespace,
            durability=durability,
            claim_store=claim_store,
            settings=settings,
        )
        self._home = _Home()
        self._opens_itself = True

    def __enter__(self) -> Self:
        self._opens_itself = False
        self._enter()
        return self

    def _enter(self) -> None:
        if self._home.pid != os.getpid():
            self._home = _Home()  # fork copies no threads, and the lock may be held by one of them
        home = self._home
        home.check_thread()
        with home.turn:
            if home.loop is None:
                home.loop = _LoopThread()
                try:
                    _result(home.loop.start(self._publisher.__aenter__()))
                except BaseException:
                    home.close()
                    raise
            home.n_users += 1

    def __exit__(self, *_: object) -> None:
        home = self._home
        if home.pid != os.getpid():  # entered before the fork: the parent will close it
            return
        with home.turn:
            home.n_users = max(0, home.n_users - 1)
            if home.loop is None or home.n_users:
                return
            try:
                _result(home.loop.start(self._publisher.__aexit__()))
            finally:
                home.close()

    def push(
        self,
        stage: Accepts[M] | str,
        message: M,
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> str:
        """Like `Publisher.push`."""
        return self._call(self._publisher.push(stage, message, delay=delay, id=id, wait=wait))

    def push_many(
        self,
        stage: Accepts[M] | str,
        messages: Iterable[M],
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> Pushed:
        """Like `Publisher.push_many`. `messages` is iterated in the publisher's thread, so it cannot push itself."""
        return self._call(self._publisher.push_many(stage, messages, delay=delay, id=id, wait=wait))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            if self._opens_itself:
                self._enter()
                self._opens_itself = False
            future = self._home.start(work)
        except BaseException:
            work.close()
            raise
        return _result(future)


class _Home:
    """The process and thread in which a publisher is open, and the number of its users."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.turn = threading.RLock()
        self.loop: _LoopThread | None = None
        self.n_users = 0

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work in the loop. Raises UsageError where no loop would ever run it."""
        if self.pid != os.getpid():
            raise UsageError(
                "the publisher was opened before this process was forked", hint=f"open one here:  {_REMEDY}"
            )
        self.check_thread()
        with self.turn:
            if self.loop is None:
                raise UsageError("the publisher is not open", hint=_REMEDY)
            return self.loop.start(work)

    def check_thread(self) -> None:
        """Raise UsageError in the loop's own thread, which would wait for itself."""
        if self.loop is not None and self.loop.is_this_thread:
            raise UsageError(
                "the publisher is busy: the iterable that it is reading messages from cannot use it",
                hint="make a list of the messages first, or push them one by one",
            )

    def close(self) -> None:
        if self.loop is not None:
            self.loop.close()
            self.loop = None


class _LoopThread:
    """An event loop that runs in a thread of its own until it is closed."""

    def __init__(self) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="flowq-publisher", daemon=True)
        self._thread.start()
        self._loop = started.result()

    @property
    def is_this_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is still running, and join the thread."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        async def until_the_end() -> None:
            started.set_result(asyncio.get_running_loop())
            await self._end.wait()

        try:
            asyncio.run(until_the_end())
        except BaseException as error:  # the loop could not be created: too many open files, perhaps
            if started.done():
                raise
            started.set_exception(error)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise UsageError(
            "the publisher was closed before the push was done", hint="close it after the last push"
        ) from None
    except BaseException:
        future.cancel()  # Ctrl-C: nothing waits for it any more
        raise
