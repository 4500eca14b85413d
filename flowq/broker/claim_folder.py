"""The claim folder: stores the large bodies of a pipeline for all its workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from flowq.broker.keys import Keys
from flowq.delivery.claim import Reference
from flowq.delivery.stored import text_in
from flowq.errors import BodyElsewhere, BodyLost, ClaimFolderUnavailable

T = TypeVar("T")
_THREADS = 4
_NAME = ".name"
_MOST_NAME_BYTES = 100


class ClaimFolder:
    """The large bodies of one pipeline: `root/namespace/pipeline/<2 hex>/<30 hex>`.

    No file is ever overwritten: each body gets an unused name, so that a late worker cannot touch what a faster one
    has published. `root` is created only if it `is_own`; otherwise, if it is missing, a disk is not mounted. A file
    names the folder, so that an empty mount point or another folder is not mistaken for it: other workers would not
    find what was written there.
    """

    def __init__(self, root: Path, keys: Keys, *, is_own: bool = False) -> None:
        self.root = root.absolute()
        self.path = self.root / keys.namespace / keys.pipeline
        self.has_stored = False  # since this process began
        self.name = ""  # once it has been verified: flowq.broker.claim_identity
        self._is_own = is_own
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="flowq-claims")

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def prepare(self) -> None:
        """Create the root if it is flowq's own."""
        if self._is_own:
            with contextlib.suppress(OSError):  # the next write reports it
                self.root.mkdir(0o700, exist_ok=True)

    # Which folder it is

    async def name_on_disk(self) -> str:
        """The name of the folder, "" if it has none yet. Raises ClaimFolderUnavailable."""
        try:
            return await self._in_thread(self._name_on_disk)
        except OSError as error:
            raise self._unavailable(error) from error

    def _name_on_disk(self) -> str:
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} does not exist")
        try:
            return text_in(_read(self.path / _NAME, _MOST_NAME_BYTES)[0])
        except FileNotFoundError:
            return ""

    async def take_name(self, name: str) -> None:
        """Name the folder; all workers use the same name. Raises ClaimFolderUnavailable."""
        try:
            await self._in_thread(self._take_name, name)
        except OSError as error:
            raise self._unavailable(error) from error

    def _take_name(self, name: str) -> None:
        for folder in (self.path.parent, self.path):
            folder.mkdir(0o700, exist_ok=True)
        (part,) = _written(self.path, [name.encode()])
        (self.path / part).rename(self.path / _NAME)
        for folder in (self.path, self.path.parent, self.root):
            _sync_folder(folder)

    # Writing

    async def store(self, bodies: Sequence[bytes]) -> list[Reference]:
        """Write bodies durably. Raises ClaimFolderUnavailable, and leaves no file then."""
        folder = self.path / secrets.token_hex(1)  # one for all of them, since it is synced as well
        shares = [bodies[i::_THREADS] for i in range(min(_THREADS, len(bodies)))]
        self.has_stored = True
        try:
            await self._in_thread(self._make, folder)
        except OSError as error:
            raise self._unavailable(error) from error
        writing = [self._in_thread(_written, folder, share) for share in shares]
        written = await asyncio.gather(*writing, return_exceptions=True)
        synced = await asyncio.gather(self._in_thread(_sync_folder, folder), return_exceptions=True)
        paths = [""] * len(bodies)
        for i, names in enumerate(written):
            if not isinstance(names, BaseException):
                paths[i::_THREADS] = [f"{folder.name}/{name}" for name in names]
        for failure in (*written, *synced):
            if isinstance(failure, BaseException):
                with contextlib.suppress(ClaimFolderUnavailable):
                    await self.remove(filter(None, paths))
                raise self._unavailable(failure) from failure
        return [Reference(path, len(body)) for path, body in zip(paths, bodies, strict=True)]

    def _make(self, folder: Path) -> None:
        if self._name_on_disk() != self.name:
            raise FileNotFoundError(f"{self.path} is not the folder that was used before")
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            return
        _sync_folder(self.path)

    async def try_to_write(self) -> None:
        """Raise ClaimFolderUnavailable if nothing can be written. Leaves no file."""
        try:
            await self._in_thread(self._try)
        except OSError as error:
            raise self._unavailable(error) from error

    def _try(self) -> None:
        file = self.root / f".{secrets.token_hex(8)}"
        file.touch(0o600, exist_ok=False)
        file.unlink()

    def _unavailable(self, error: BaseException) -> ClaimFolderUnavailable:
        return ClaimFolderUnavailable(
            f"cannot store large bodies in {self.root}",
            hint="check that it is mounted, has free space, and is writable by this user",
            detail=str(error),
        )

    async def remove(self, paths: Iterable[str]) -> int:
        """Delete bodies; returns how many existed. Raises ClaimFolderUnavailable."""
        try:
            return await self._in_thread(self._remove, list(paths))
        except OSError as error:
            raise self._unavailable(error) from error

    def _remove(self, paths: Sequence[str]) -> int:
        n = 0
        if not self._is_here():  # otherwise files of an unmounted folder would count as deleted
            raise FileNotFoundError(f"{self.path} is not the folder that was used before")
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                (self.path / path).unlink()
                n += 1
        return n

    async def refresh(self, paths: Sequence[str]) -> None:
        """Update the modification time of bodies that no message refers to yet, so that they are not orphans."""
        with contextlib.suppress(OSError):
            await self._in_thread(self._refresh, paths)

    def _refresh(self, paths: Sequence[str]) -> None:
        for path in paths:
            os.utime(self.path / path)

    # Reading

    async def load(self, stored: bytes) -> bytes:
        """The body of a stored reference.

        Raises BodyElsewhere if the folder cannot be read, and BodyLost if the folder does not have the body.
        """
        return await self._in_thread(self._load, Reference.decode(stored))

    def _load(self, reference: Reference) -> bytes:
        try:
            body, n_bytes = _read(self.path / reference.path, reference.n_bytes)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._is_here():
                raise BodyLost(
                    f"the claim folder has no file {reference.path}",
                    hint=f"restore it to {self.path}, then retry the dead letter: flowq dlq retry",
                ) from None
            raise BodyElsewhere(
                f"the body is in {self.path}, which cannot be read here",
                hint="mount the folder that all workers of the pipeline share, or point claim_folder to it",
                detail=error.strerror or str(error),
            ) from None
        if not len(body) == n_bytes == reference.n_bytes:
            raise BodyLost(
                f"file {reference.path} of the claim folder has {n_bytes:,} bytes, not {reference.n_bytes:,}",
                hint=f"restore it to {self.path}, then retry the dead letter: flowq dlq retry",
            )
        return body

    def _is_here(self) -> bool:
        """Whether this is the folder itself, not its empty mount point."""
        try:
            name = self._name_on_disk()
        except OSError:
            return False
        return bool(name) and self.name in ("", name)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _written(folder: Path, bodies: Sequence[bytes]) -> list[str]:
    """Write these bodies to new files and return their names; leaves none if one cannot be written."""
    names: list[str] = []
    try:
        for body in bodies:
            name = secrets.token_hex(15)
            part = folder / f"{name}.part"
            names.append(part.name)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.rename(folder / name)
            names[-1] = name
    except OSError:
        for name in names:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        raise
    return names


def _read(path: Path, most_bytes: int) -> tuple[bytes, int]:
    """The beginning of a file, and its size. Raises OSError for a symbolic link, which could lead to any file."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(most_bytes), os.fstat(file.fileno()).st_size


def _sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
