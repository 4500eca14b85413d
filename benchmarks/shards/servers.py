"""Several redis-servers for one measurement, each with a replica if need be."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks.server import Server


class Servers:
    """Plain servers, over which the shards of a pipeline are spread. Use it in a `with`.

    They are not a cluster: where shards lie is then the same in each run. A cluster does the same per message.
    """

    def __init__(self, n: int, *, replicas: bool = False) -> None:
        self._n, self._replicas = n, replicas
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        no_delay = ("--repl-diskless-sync-delay", "0")
        self.primaries = [self._stack.enter_context(Server(*no_delay)) for _ in range(self._n)]
        for primary in self.primaries if self._replicas else []:
            address = urlsplit(primary.url)
            self._stack.enter_context(Server("--replicaof", str(address.hostname), str(address.port)))
            while not primary.client.wait(1, 1000):
                pass
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        if self._n == 1:
            return self.primaries[0].url
        return f"redis+servers://{','.join(urlsplit(primary.url).netloc for primary in self.primaries)}/0"

    @property
    def folder(self) -> Path:
        """A folder for the tallies of this measurement."""
        return self.primaries[0].folder

    @property
    def cpu_seconds(self) -> list[float]:
        """Processor time that each primary has used so far."""
        return [primary.cpu_seconds for primary in self.primaries]
