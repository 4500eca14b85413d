"""Real servers that can be killed, frozen, denied memory, and restarted with their data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis_server import Kind, RedisServer

# Never rewritten, the append-only file is the whole history of the server: see the journal.
DURABLE = (
    *("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"),
    *("--maxmemory-policy", "noeviction"),
)


class DurableServer(RedisServer):
    """A redis-server that writes down everything, so that `kill` and `start` lose nothing."""

    def __init__(self, kind: Kind, *options: str) -> None:
        super().__init__(kind, *DURABLE, *options)

    @property
    def options(self) -> tuple[str, ...]:
        """What it is started with, beside where it lives; changes count at the next start."""
        return self._options

    @options.setter
    def options(self, options: tuple[str, ...]) -> None:
        self._options = options

    @property
    def folder(self) -> Path:
        return Path(urlsplit(self.url).path).parent

    @property
    def journal(self) -> Path:
        """The append-only file."""
        (file,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return file

    def client(self) -> redis.Redis:
        """A direct connection to the server, past any proxy."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
