"""Threads for handlers that may block, one for each slot of their stages."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Call = Callable[[], None]


class HandlerThreads(Executor):
    """At most `slots` threads, each started when a call finds none idle.

    They are daemons: a program can exit while some of them hang, which `ThreadPoolExecutor` would join.
    """

    def __init__(self, slots: int) -> None:
        self._most = slots
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._numbers = itertools.count()
        self._started = self._outstanding = 0
        self._is_shut_down = False
        self._changing = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function on the next thread that is free."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  (raised to those who await the future)
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changing:
            if self._is_shut_down:
                raise RuntimeError("these threads have been shut down")
            self._calls.put(call)
            self._outstanding += 1
            if self._started < min(self._outstanding, self._most):
                self._started += 1
                thread = threading.Thread(target=self._work, name=f"flowq-handler_{next(self._numbers)}", daemon=True)
                thread.start()
        return future

    def give_up_one(self) -> None:
        """Replace a thread whose handler has timed out: nothing can stop it.

        Otherwise the next message of the slot would wait for that thread, and time out without having run.
        """
        with self._changing:
            self._most += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have each thread end after its call. Never waits for them, whatever the arguments: they may hang."""
        with self._changing:
            self._is_shut_down = True
            for _ in range(self._started):
                self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # an idle thread keeps no message
            with self._changing:
                self._outstanding -= 1
