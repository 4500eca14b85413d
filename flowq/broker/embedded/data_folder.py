"""The data folder of flowq's own Redis: private files, opened without following links, and a password."""

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
    """Create the folder if it does not exist. Raises OSError, and BrokerUnavailable if another user may change it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign_writers(folder)
    if not any(folder.iterdir()):  # otherwise it may be the user's own folder
        folder.chmod(0o700)
        _write(folder / ".gitignore", "*\n")


def refuse_foreign_writers(folder: Path) -> None:
    """Raise BrokerUnavailable unless the folder belongs to this user and only this user may write to it."""
    found = folder.lstat()
    if found.st_uid != os.geteuid():
        fault, hint = "belongs to another user", f"chown -R it to the user who runs flowq: {os.geteuid()}"
    elif found.st_mode & 0o022:
        fault, hint = "is writable by other users", f"chmod go-w {folder}"
    else:
        return
    raise BrokerUnavailable(f"{folder} {fault}, so Redis data cannot be stored there", hint=hint)


def open_private(path: Path, flags: int) -> int:
    """Open a file of the folder, created with access for this user only. Raises OSError unless it is a regular file."""
    # Without O_NONBLOCK a named pipe would block. For files it changes nothing.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return descriptor


def size_of(path: Path) -> int:
    """The size of a file in bytes, 0 if there is none."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def text_after(path: Path, start_bytes: int) -> str:
    """The text of a log after a position, or the end of it."""
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        file.seek(max(start_bytes, os.fstat(file.fileno()).st_size - _MOST_LOG_BYTES))
        return file.read(_MOST_LOG_BYTES).decode(errors="replace")


def password_of(folder: Path) -> str:
    """The password of the folder's server; "" if it has none or an incomplete one. Raises OSError."""
    try:
        with os.fdopen(open_private(folder / PASSWORD_FILE, os.O_RDONLY)) as file:
            found = file.read(100).strip()
    except FileNotFoundError:
        return ""
    return found if _PASSWORD.fullmatch(found) else ""


def give_password(folder: Path) -> None:
    """Make the next server of the folder require a password. Only for the holder of the server lock."""
    password = password_of(folder) or secrets.token_hex(32)
    _write(folder / PASSWORD_FILE, password + "\n")
    # In a file, since every user of the machine can read the arguments of a process.
    _write(folder / SERVER_CONF, f"requirepass {password}\n")


def _write(path: Path, text: str) -> None:
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT), "w") as file:
        os.fchmod(file.fileno(), 0o600)  # an existing one may be open to others
        file.truncate()
        file.write(text)
