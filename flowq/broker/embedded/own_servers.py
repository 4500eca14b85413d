"""The servers that flowq runs itself for a project: one, or several to try out what several nodes do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from flowq.broker.embedded.server import EmbeddedRedis


@dataclass(frozen=True, slots=True)
class OwnServers:
    """This process's hold on them. The first has its data in the folder of the project, as if it were the only one."""

    servers: Sequence[EmbeddedRedis]

    @property
    def url(self) -> str:
        """The URL of each, with a space between them."""
        return " ".join(server.url for server in self.servers)

    @property
    def data_dir(self) -> Path:
        """The folder of the project."""
        return self.servers[0].data_dir

    def release(self) -> None:
        """End this hold. Each server stops after the last one that holds it."""
        for server in self.servers:
            server.release()


async def own_servers(folder: Path, n_servers: int) -> OwnServers:
    """Attach to the servers of a folder, or start them, without blocking the event loop.

    Cancelled, or if one of them cannot be started, it lets go of all. Raises as `EmbeddedRedis.acquire` does.
    """
    folders = [folder, *(folder / f"server-{n}" for n in range(2, n_servers + 1))]
    acquiring = [_acquire(each) for each in folders]
    try:
        return OwnServers([await asyncio.wrap_future(each) for each in acquiring])
    except BaseException:
        for each in acquiring:
            each.add_done_callback(_release)
        raise


def _acquire(folder: Path) -> Future[EmbeddedRedis]:
    acquiring: Future[EmbeddedRedis] = Future()
    acquiring.set_running_or_notify_cancel()

    def acquire() -> None:
        try:
            acquiring.set_result(EmbeddedRedis.acquire(folder))
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            acquiring.set_exception(error)

    # Not the loop's own executor: its threads would stay in the host program, and user code may occupy all of them.
    threading.Thread(target=acquire, name="flowq-embedded", daemon=True).start()
    return acquiring


def _release(acquired: Future[EmbeddedRedis]) -> None:
    if acquired.exception() is None:
        acquired.result().release()
