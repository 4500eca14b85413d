"""The parent of an embedded redis-server: keeps it alive exactly as long as its data folder has users.

Run as a script in the data folder, with the command of the server as arguments. It imports as little as it
can, because every import here delays the first command of the user. Users of the folder hold a shared lock on
`users.lock`, which the kernel drops however they end: an exclusive lock means that no user is left.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 3.0
WORTH_RESTARTING_SECONDS = 1.0


class Watchdog:
    """One running server, and whether it still has users."""

    def __init__(self, command: list[str]) -> None:
        self.in_use = True
        self.started_seconds = time.monotonic()
        self.server_pid: int | None = start(command)

    def watch(self) -> bool:
        """Wait for the end of the server. True: it still had users, and another one can be started."""
        _thread.start_new_thread(self.stop_when_unused, ())
        _, status = os.waitpid(self.server_pid or 0, 0)
        self.server_pid = None  # may be another process from now on
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            return repaired() and self.in_use
        # One that exits by itself (SHUTDOWN) would do so again, and so would one that was killed at once.
        lived = time.monotonic() - self.started_seconds > WORTH_RESTARTING_SECONDS
        return self.in_use and lived and os.WIFSIGNALED(status)

    def stop_when_unused(self) -> None:
        """Block until no user is left, then stop the server.

        The lock is kept until this process ends, so that a new user waits until the server is gone
        instead of attaching to one that is stopping.
        """
        users = os.open("users.lock", os.O_RDWR)
        fcntl.flock(users, fcntl.LOCK_EX)
        self.in_use = False
        self.signal(signal.SIGINT)
        time.sleep(STOP_SECONDS)  # the process ends, this thread with it, as soon as the server is gone
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to the server, if it still runs."""
        if self.server_pid is not None:
            os.kill(self.server_pid, number)


def repaired() -> bool:
    """Whether the server could not read its log because of an incomplete end, which is now truncated."""
    # Hardly ever needed, and every import delays the user's first command.
    import runpy
    from pathlib import Path

    # Processes that wait for the server see progress in its log.
    said = "flowq: looking for the end of the last whole step in the log\n"
    repair = runpy.run_path(str(Path(__file__).with_name("aof_repair.py")))["repair"]
    n_bytes = repair(Path(), lambda: write(said))
    if n_bytes:
        write(f"flowq: cut {n_bytes} bytes of a step that was never completed off the log\n")
    return bool(n_bytes)


def write(text: str) -> None:
    """Add to the log of the server."""
    os.write(1, text.encode())


def start(command: list[str]) -> int:
    """Start the server as a child that the kernel kills together with this process (Linux)."""
    watchdog_pid = os.getpid()
    server_pid = os.fork()
    if server_pid:
        return server_pid
    try:
        if sys.platform == "linux":
            # SIGKILL, not SIGTERM: a server that takes 100 ms to stop would still answer new users. Nothing
            # acknowledged is lost, since Redis writes its log before it answers.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            if os.getppid() != watchdog_pid:
                os._exit(1)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    os._exit(127)


def main(command: list[str]) -> None:
    """Detach from the calling process, then watch one server until it ends."""
    if os.fork():
        os._exit(0)  # the caller reaps this one at once and has no other child
    # A service manager stops a unit by signalling all its processes. The users need the server to finish
    # their work, so it must not stop first. It inherits this mask, and is stopped by SIGINT instead.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM, signal.SIGHUP})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited "ignore" would hide how the server ended
    if Watchdog(command).watch():
        os.execv(sys.executable, sys.orig_argv)  # not a loop: forking beside the waiting thread is unsafe
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
