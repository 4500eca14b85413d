"""Real servers that can be hurt: killed, frozen, refused their memory, and started again with what they had kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import redis

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
        self.is_running = False

    def start(self) -> None:
        super().start()
        self.is_running = True

    def kill(self) -> None:
        self.is_running = False
        super().kill()

    @property
    def folder(self) -> Path:
        return Path(urlsplit(self.url).path).parent

    def client(self) -> redis.Redis:
        """Somebody's hand on the server itself, past any proxy."""
        return redis.Redis.from_url(self.url)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
