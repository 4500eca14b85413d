"""A new redis-server for one measurement, removed afterwards."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.processes import ending_with_this_process
from flowq.broker.embedded.server import find_server_binary

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
_START_SECONDS = 10.0


class Server:
    """A server on this machine, without persistence unless `options` say otherwise. Use it in a `with`.

    It listens on a TCP port, as most servers do, or on a unix socket, which makes round trips cheaper.
    """

    on_unix_socket = False

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="flowq-bench-")
        if self.on_unix_socket:
            path = f"{self._folder.name}/redis.sock"
            self.url, self._listen = f"unix://{path}", ("--port", "0", "--unixsocket", path)
        else:
            port = _free_port()
            self.url, self._listen = f"redis://127.0.0.1:{port}/0", ("--port", str(port), "--bind", "127.0.0.1")
        self.client: Any = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def __enter__(self) -> Self:
        command = [
            *ending_with_this_process(),
            *(find_server_binary(), *self._listen, "--dir", self._folder.name),
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
        """A folder for the tallies of this measurement."""
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

    def commands_per_second(self, seconds: float) -> float:
        """Count the commands that clients send within `seconds`, without the commands that scripts run."""
        n, ends_at = 0, time.monotonic() + seconds
        with self.client.monitor() as monitor:
            while time.monotonic() < ends_at:
                n += monitor.next_command()["client_type"] != "lua"
        return n / seconds


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
