"""What a local folder needs beyond obstore: syncing, privacy, and its true content."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path


class LocalFolder:
    """The folder of one pipeline within `root`, which is created only if it `is_own`: otherwise it is a mount point."""

    def __init__(self, root: Path, prefix: str, *, is_own: bool) -> None:
        self.root = root
        self.path = root / prefix
        self.is_own = is_own

    def check(self) -> None:
        """Raise OSError if the root is missing."""
        if self.is_own:
            self.root.mkdir(0o700, exist_ok=True)
        if not self.root.is_dir():
            raise NotADirectoryError(f"{self.root} does not exist")

    def read(self, path: str, most_bytes: int) -> tuple[bytes, int] | None:
        """The beginning of a file, and its size; None if it does not exist. Raises OSError.

        Not by obstore, which follows symbolic links: one in the place of a body could lead to any file.
        """
        self.check()
        try:
            descriptor = os.open(self.path / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most_bytes), os.fstat(descriptor).st_size

    def make(self) -> None:
        """Create the folder of the pipeline. Only its user may enter it, whatever the umask makes of what is inside."""
        for folder in (self.path.parent, self.path):
            folder.mkdir(0o700, exist_ok=True)
            _sync(folder.parent)

    def sync(self, paths: Iterable[str]) -> None:
        """Sync files or folders to disk: obstore leaves that to the system, which a power loss would interrupt."""
        for path in paths:
            _sync(self.path / path)

    def files(self, before: float) -> dict[str, int]:
        """The files last written before a point in time, and their sizes.

        Unlike the list of obstore, this has files whose writer was killed (`NAME#1`).
        """
        found: dict[str, int] = {}
        for file in self.path.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                about = file.lstat()
                if about.st_mtime < before:
                    found[f"{file.parent.name}/{file.name}"] = about.st_size
        return found

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            (self.path / path).unlink(missing_ok=True)

    def touch(self, paths: Sequence[str]) -> None:
        for path in paths:
            os.utime(self.path / path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
