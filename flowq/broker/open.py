"""Opens the broker of a pipeline, for one or for several tasks: by URL, in memory, or on the server of flowq."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from shlex import quote

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.forks import detach
from flowq.broker.client.many_servers import names_many_servers, servers_dialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.client.redis_url import with_files_of
from flowq.broker.client.topology import ClusterDialer, SentinelDialer
from flowq.broker.embedded.data_folder import PASSWORD_FILE
from flowq.broker.embedded.own_servers import own_servers
from flowq.broker.keys import Keys
from flowq.broker.program_import import refuse_while_importing
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS
from flowq.broker.shards.layout import read_layout, refuse_exchanged_servers
from flowq.errors import BrokerLoading, BrokerUnavailable, UsageError
from flowq.large_bodies.store import BodyStore
from flowq.settings import Settings
from flowq.settings.project import MEMORY

CLAIMS = "claims"
_LOADING_POLL_SECONDS = 0.2

log = logging.getLogger("flowq.broker")


def by_hand(data_folder: str) -> str:
    """How to reach the server that flowq runs itself by hand."""
    folder = quote(data_folder)
    return f"REDISCLI_AUTH=$(cat {folder}/{PASSWORD_FILE}) redis-cli -s {folder}/redis.sock"


def dialer_for(url: str, pipeline: str) -> Dialer:
    """Connections to the server that holds a pipeline. Nothing is connected yet. Raises UsageError for a bad URL."""
    if url == MEMORY:
        return MemoryDialer()
    if names_many_servers(url):
        return servers_dialer(url)
    kind = url.partition("://")[0].partition("+")[2].lower()
    if kind == "sentinel":
        return SentinelDialer(url)
    return ClusterDialer(url, hash_tag=pipeline) if kind == "cluster" else UrlDialer(url)


@asynccontextmanager
async def open_broker(
    pipeline: str, settings: Settings, shards: int | None = None, *, needs_first: bool = True
) -> AsyncGenerator[Broker]:
    """The broker of a pipeline for the length of a `with`: that of shard 0, which has all of them in `shards`.

    Their number is what Redis has on record; without a record it is `shards`, the number in the code, or 1. A
    program that runs the code or publishes must compare both: see `agree_on_layout`.

    Large bodies are kept in the claim store that is set; by default in the data folder of the server that flowq runs
    itself.

    Waits for a Redis that is still reading its data. Raises BrokerUnavailable if there is none, UsageError for a
    durability that is not possible, WrongServers for a list of servers that has changed. Without `needs_first`, for
    views, shard 0 need not answer if `shards` is above 1.
    """
    refuse_while_importing()
    _check(settings)
    own = await own_servers(settings.data_folder, settings.servers) if settings.is_embedded else None
    try:
        dialer = dialer_for(own.url if own else with_files_of(settings.root, settings.redis or ""), pipeline)
        keys = Keys(settings.namespace, pipeline)
        claims = claim_store_for(keys, settings.claim_store, own.data_dir if own else None)
        broker = Broker(dialer, keys, durability=settings.durability, claims=claims)
        try:
            with_shards(broker, await _number_of_shards(broker, shards or 1, needs_first=needs_first))
            await refuse_exchanged_servers(broker)
            yield broker
        finally:
            await close_shards(broker)
    finally:
        if own is not None:
            own.release()


def claim_store_for(keys: Keys, location: str | Path | None, own_data: Path | None = None) -> BodyStore | None:
    """The store of large bodies: as configured, else beside flowq's own data; None if neither is known."""
    if location is not None:
        return BodyStore(location, keys.namespace, keys.pipeline)
    return BodyStore(own_data / CLAIMS, keys.namespace, keys.pipeline, is_own=True) if own_data else None


async def _number_of_shards(broker: Broker, in_code: int, *, needs_first: bool) -> int:
    can_do_without = not needs_first and in_code > 1
    try:
        async with asyncio.timeout(VIEW_PATIENCE_SECONDS if can_do_without else None):
            await _first_answer(broker)
            return await read_layout(broker) or in_code
    except (BrokerUnavailable, TimeoutError):
        if not can_do_without:
            raise
        return in_code


async def _first_answer(broker: Broker) -> None:
    n_asked = 0
    while True:
        try:
            return await broker.ping()
        except BrokerLoading as error:
            n_asked += 1
            if n_asked == 1:
                log.warning("%s, waiting", error.message)
            await asyncio.sleep(_LOADING_POLL_SECONDS)


def _check(settings: Settings) -> None:
    if settings.durability == "replicated" and (settings.is_embedded or settings.redis == MEMORY):
        raise UsageError('durability "replicated" needs a Redis with a replica', hint="give its URL: redis=...")


class SharedBroker:
    """Opens a broker for the first user, and closes it after the last. It can be opened again afterwards.

    `owner` is what errors call it, `prepare` what it does before the broker is used. One event loop at a time may use
    it: connections belong to the loop that made them. A forked child has no part in what its parent has opened.
    """

    def __init__(
        self,
        owner: str,
        opening: Callable[[], AbstractAsyncContextManager[Broker]],
        *,
        remedy: str,
        prepare: Callable[[Broker], Awaitable[None]] | None = None,
    ) -> None:
        self._owner = owner
        self._opening = opening
        self._prepare = prepare
        self._remedy = remedy
        self._home = _Home()
        self._must_reopen = False

    async def enter(self) -> None:
        """Raises what opening raises, and UsageError while it is open in another event loop."""
        home = self._home = self._home_here()
        home.n_users += 1
        try:
            async with home.turn:
                if home.broker is None:
                    broker = await home.stack.enter_async_context(self._opening())
                    if self._prepare is not None:
                        await self._prepare(broker)
                    home.broker = broker
        except BaseException:
            await self.leave()
            raise
        self._must_reopen = False

    async def follow_fork(self) -> None:
        """In a forked child of the process that has opened it: open it here too, once that works.

        Raises as `enter` does.
        """
        if self._home.pid != os.getpid() and self._home.n_users:
            self._must_reopen = True
        while True:
            home = self._home
            if home.broker is None and home.n_users and home.is_here:
                async with home.turn:  # another task is opening it
                    pass
            elif self._must_reopen:
                await self.enter()
            else:
                return

    async def leave(self) -> None:
        """Does nothing for a caller that has not entered, such as a forked child of one that has."""
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
            detach()  # where a program forks without Python's knowledge, as uWSGI does, this is the first time
            if home.broker is not None and home.broker.dialer.is_private:
                raise UsageError(
                    f"the {self._owner} has its server in the memory of the parent process",
                    hint='processes cannot share it: use a real server, for instance redis="embedded"',
                )
            _of_the_parent.append(home)
        elif home.n_users and home.loop is not None and not home.loop.is_closed():
            raise UsageError(f"the {self._owner} is open in another event loop", hint="make one for each event loop")
        loop = _running_loop()
        if loop is None:
            raise UsageError("a forked process cannot continue the event loop of its parent", hint="asyncio.run(...)")
        return _Home(loop)


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
        return self.pid == os.getpid() and self.loop is not None and self.loop is _running_loop()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """None in a child that was forked by code in an event loop: it has the loop of its parent no longer."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_of_the_parent: list[_Home] = []
"""Kept, so that a child does not free them, with warnings, while it works."""
