"""Threads for handlers that may block, one for each slot of their stages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


class HandlerThreads(ThreadPoolExecutor):
    """A pool that can do without a thread that does not come back."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots, thread_name_prefix="flowq-handler")

    def give_up_one(self) -> None:
        """A handler has run out of time, and nothing can stop its thread. Its slot gets another one.

        Otherwise the next message of the slot would wait for that thread, and run out of time without having run.
        """
        self._max_workers += 1
