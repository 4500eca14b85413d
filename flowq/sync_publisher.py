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
from flowq.delivery.pushed import Pushed, PushedId
from flowq.errors import UsageError
from flowq.graph.declaration.flow import Accepts
from flowq.publisher import Publisher
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
    that is never entered, as in a web app, opens at its first push and stays open until the process ends. A process
    that was forked while it was open, such as a worker of `gunicorn --preload`, has its own connection from its first
    push on.

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
        self._home = _Home(self._publisher)
        self._opens_itself = True

    def __enter__(self) -> Self:
        self._opens_itself = False
        self._home_here().enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._home_here().leave()

    def push(
        self,
        stage: Accepts[M] | str,
        message: M,
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> PushedId:
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
            home = self._home_here()
            if self._opens_itself:
                home.enter()
                self._opens_itself = False
            future = home.start(work)
        except BaseException:
            work.close()
            raise
        return _result(future)

    def _home_here(self) -> _Home:
        home = self._home
        if home.pid != os.getpid():
            home = self._home = home.of_child()
        return home


class _Home:
    """The process and thread in which a publisher is open, and the number of its users.

    A fork copies no threads, and the lock may be held by one of them. So a child has a home of its own with the same
    users, which opens at the first push: it costs nothing in a child that pushes nothing.
    """

    def __init__(self, publisher: Publisher, n_users: int = 0) -> None:
        self.pid = os.getpid()
        self._publisher = publisher
        self._turn = threading.RLock()
        self._loop: _LoopThread | None = None
        self._n_users = n_users
        self._children: dict[int, _Home] = {}

    def of_child(self) -> _Home:
        """The home in a child; the same for all its threads, without a lock."""
        return self._children.setdefault(os.getpid(), _Home(self._publisher, self._n_users))

    def enter(self) -> None:
        self._check_thread()
        with self._turn:
            self._opened()
            self._n_users += 1

    def leave(self) -> None:
        with self._turn:
            self._n_users = max(0, self._n_users - 1)
            if self._loop is None or self._n_users:
                return
            try:
                _result(self._loop.start(self._publisher.__aexit__()))
            finally:
                self._close()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work in the loop. Raises UsageError where no loop would ever run it, and what opening raises."""
        self._check_thread()
        with self._turn:
            if not self._n_users:
                raise UsageError("the publisher is not open", hint=_REMEDY)
            return self._opened().start(work)

    def _opened(self) -> _LoopThread:
        if self._loop is None:
            self._loop = _LoopThread()
            try:
                _result(self._loop.start(self._publisher.__aenter__()))
            except BaseException:
                self._close()
                raise
        return self._loop

    def _check_thread(self) -> None:
        """Raise UsageError in the loop's own thread, which would wait for itself."""
        if self._loop is not None and self._loop.is_this_thread:
            raise UsageError(
                "the publisher is busy: the iterable that it is reading messages from cannot use it",
                hint="make a list of the messages first, or push them one by one",
            )

    def _close(self) -> None:
        if self._loop is not None:
            self._loop.close()
            self._loop = None


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
