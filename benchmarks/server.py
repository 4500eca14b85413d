"""A redis-server that serves one measurement: fresh, private, gone afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.broker.embedded import find_server_binary

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
_START_SECONDS = 10.0


class Server:
    """A server on a unix socket, without persistence unless `options` say otherwise. Use it in a `with`."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="flowq-bench-")
        self.url = f"unix://{self._folder.name}/redis.sock"
        self.client: Any = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def __enter__(self) -> Self:
        folder = self._folder.name
        command = [
            *_ends_with_this_process(),
            *(find_server_binary(), "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--dir", folder),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
            *self._options,
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{find_server_binary()} did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    @property
    def folder(self) -> Path:
        """Where tallies of this measurement may lie."""
        return Path(self._folder.name)

    @property
    def version(self) -> str:
        return str(self.client.info("server")["redis_version"])

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        info = self.client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    @property
    def memory_bytes(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def commands(self) -> dict[str, int]:
        """How often each command has run, those inside scripts included."""
        stats: dict[str, dict[str, int]] = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): about["calls"] for name, about in stats.items()}


def _ends_with_this_process() -> list[str]:
    """On Linux the kernel ends the server when this process is killed and cannot."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
