"""One open broker that several tasks share: the first opens it, the last closes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from flowq.broker.redis_streams import Broker
from flowq.errors import UsageError


class SharedBroker:
    """Opens a broker for whoever enters, and closes it when the last has left. It can be opened again afterwards.

    `owner` is what errors call it. One event loop at a time may use it: connections belong to the loop that made them.
    """

    def __init__(self, owner: str, opening: Callable[[], AbstractAsyncContextManager[Broker]], *, remedy: str) -> None:
        self._owner = owner
        self._opening = opening
        self._remedy = remedy
        self._home = _Home()

    async def enter(self) -> None:
        """Raises what opening raises, and UsageError while it is open in another event loop."""
        home = self._home = self._home_here()
        home.n_users += 1
        try:
            async with home.turn:
                if home.broker is None:
                    home.broker = await home.stack.enter_async_context(self._opening())
        except BaseException:
            await self.leave()
            raise

    async def leave(self) -> None:
        """Does nothing for one who has not entered, such as a forked child of a process that has."""
        home = self._home
        if not home.is_here or not home.n_users:
            return
        home.n_users -= 1
        async with home.turn:
            if not home.n_users:
                home.broker = None
                await home.stack.aclose()

    @property
    def opened(self) -> Broker:
        """The broker. Raises UsageError if it is not open in this process and loop."""
        home = self._home
        if home.broker is None:
            raise UsageError(f"the {self._owner} is not open", hint=self._remedy)
        if not home.is_here:
            where = "before this process was forked" if home.pid != os.getpid() else "in another event loop"
            raise UsageError(f"the {self._owner} was opened {where}", hint=f"open one here:  {self._remedy}")
        return home.broker

    def _home_here(self) -> _Home:
        home = self._home
        if home.is_here:
            return home
        if home.pid != os.getpid():
            # To close or free these would close the sockets for the parent: its event loop watches the same ones.
            _of_the_parent.append(home)
        elif home.n_users and home.loop is not None and not home.loop.is_closed():
            raise UsageError(f"the {self._owner} is open in another event loop", hint="make one for each event loop")
        return _Home(asyncio.get_running_loop())


class _Home:
    """Where a broker is open: in which process and event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.pid = os.getpid()
        self.loop = loop
        self.turn = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.broker: Broker | None = None
        self.n_users = 0

    @property
    def is_here(self) -> bool:
        return self.loop is asyncio.get_running_loop() and self.pid == os.getpid()


_of_the_parent: list[_Home] = []
