"""The folder in which flowq keeps a Redis of its own: private files, opened without following links, and a password."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from flowq.errors import BrokerUnavailable

PASSWORD_FILE = "redis.password"
"""The password of the server, and nothing else: REDISCLI_AUTH=$(cat .flowq/redis.password)."""
SERVER_CONF = "redis.conf"

_PASSWORD = re.compile(r"[0-9a-f]{64}")
_MOST_LOG_BYTES = 100_000


def prepare(folder: Path) -> None:
    """Make the folder if it is not there. Raises OSError, and BrokerUnavailable where another user may change it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_what_others_may_change(folder)
    if not any(folder.iterdir()):  # else it may be a folder of the user's, to be left as it is
        folder.chmod(0o700)
        _write(folder / ".gitignore", "*\n")


def refuse_what_others_may_change(folder: Path) -> None:
    """Raise BrokerUnavailable unless a folder belongs to this user, who alone may write there."""
    found = folder.lstat()
    if found.st_uid != os.geteuid():
        fault, hint = "belongs to another user", f"chown -R it to the user who runs flowq: {os.geteuid()}"
    elif found.st_mode & 0o022:
        fault, hint = "may be written by other users", f"chmod go-w {folder}"
    else:
        return
    raise BrokerUnavailable(f"{folder} {fault}, so Redis data cannot be kept there", hint=hint)


def open_private(path: Path, flags: int) -> int:
    """Open a file of the folder, made for this user alone. Raises OSError for a link and for what is no plain file."""
    # A named pipe would block without O_NONBLOCK. It changes nothing for files.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a plain file")
    return descriptor


def size_of(path: Path) -> int:
    """The size of a file in bytes, 0 where there is none."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def text_behind(path: Path, start_bytes: int) -> str:
    """What was written to a log behind a position, or the last of it."""
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        file.seek(max(start_bytes, os.fstat(file.fileno()).st_size - _MOST_LOG_BYTES))
        return file.read(_MOST_LOG_BYTES).decode(errors="replace")


def password_of(folder: Path) -> str:
    """The password of the folder's server; "" where it has none, or none that is whole. Raises OSError."""
    try:
        with os.fdopen(open_private(folder / PASSWORD_FILE, os.O_RDONLY)) as file:
            found = file.read(100).strip()
    except FileNotFoundError:
        return ""
    return found if _PASSWORD.fullmatch(found) else ""


def give_password(folder: Path) -> None:
    """Have the next server of the folder ask for a password. Only for whoever holds the lock of the server."""
    password = password_of(folder) or secrets.token_hex(32)
    _write(folder / PASSWORD_FILE, password + "\n")
    # By a file: every user of the machine may read the arguments of a process.
    _write(folder / SERVER_CONF, f"requirepass {password}\n")


def _write(path: Path, text: str) -> None:
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT), "w") as file:
        os.fchmod(file.fileno(), 0o600)  # one that was there may have been open to others
        file.truncate()
        file.write(text)
