"""Processes that use the embedded Redis of a folder, and facts from /proc about them and the server."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

import flowq.errors
from flowq.broker.embedded.server import find_server_binary
from flowq.errors import BrokerUnavailable

USER = """
import json, sys
from pathlib import Path
from flowq.broker.embedded.server import EmbeddedRedis
with EmbeddedRedis.acquire(Path(sys.argv[1])) as server:
    print(json.dumps([server.url, server.pid, server.attached]), flush=True)
    sys.stdin.read()
"""
LEAKING_USER = """
import subprocess, sys
from pathlib import Path
from flowq.broker.embedded.server import EmbeddedRedis
server = EmbeddedRedis.acquire(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
print(child.pid, server.pid, flush=True)
"""
FORKING_USER = """
import os, sys, time
from pathlib import Path
from flowq.broker.embedded.server import EmbeddedRedis
server = EmbeddedRedis.acquire(Path(sys.argv[1]))
if not os.fork():
    print(os.getpid(), server.pid, flush=True)
    os.close(1)
    time.sleep(60)
sys.stdin.read()
"""
RELEASING_CHILD_USER = FORKING_USER.replace("    print", "    server.release()\n    print")
DRAINING_USER = """
import signal, sys, time
from pathlib import Path
import redis
from flowq.broker.embedded.server import EmbeddedRedis
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
with EmbeddedRedis.acquire(Path(sys.argv[1])) as server:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(30):  # three times as long as a server takes to obey a signal
        written = redis.Redis.from_url(server.url).incr("written")
        time.sleep(0.01)
    print(len(interrupted), written, flush=True)
"""

SERVER_THAT_SAYS_IT_IS_OLD = f"""#!{sys.executable}
import socket, sys
path = sys.argv[sys.argv.index("--unixsocket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    info = b"redis_version:6.2.14\\r\\nexecutable:/old/redis-server\\r\\nprocess_id:1\\r\\nloading:0\\r\\n"
    connection.sendall(b"+OK\\r\\n$%d\\r\\n%s\\r\\n" % (len(info), info))
    connection.close()
"""

StartUser = Callable[..., "UserProcess"]


def state_of(pid: int) -> list[str]:
    """State and parent of a process from /proc; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    if sys.platform == "linux":
        return state_of(pid)[:1] not in ([], ["Z"], ["X"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def parent_of(pid: int) -> int:
    return int(state_of(pid)[1])


def client(url: str) -> Any:
    return redis.Redis.from_url(url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]


class UserProcess:
    """A process that holds the server of `folder` until it is told to leave or killed."""

    def __init__(self, folder: Path, script: str = USER, *, new_group: bool = False) -> None:
        root = Path(flowq.errors.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
            process_group=0 if new_group else None,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def server(self) -> tuple[str, int, bool]:
        url, pid, attached = json.loads(self.line())
        return url, pid, attached

    def leave(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def lock_is_free(lock_file: Path) -> bool:
    with lock_file.open("r+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def installed_binaries() -> list[str]:
    found = {shutil.which(name) for name in ("redis-server", "valkey-server")}
    with contextlib.suppress(BrokerUnavailable):
        found.add(find_server_binary())
    return sorted(binary for binary in found if binary)


def version_of(binary: str) -> tuple[int, ...]:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, text.partition("v=")[2].split()[0].split(".")))


def status_field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)[name]


def answers(url: str) -> bool:
    try:
        return bool(client(url).ping())
    except redis.ConnectionError:
        return False
