"""The store of large bodies: a folder, or a bucket of S3, Google Cloud Storage or Azure, shared by all workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from flowq.delivery.encoding.compression import unpacked
from flowq.delivery.message import Delivery, Header
from flowq.delivery.stored import text_in
from flowq.errors import BodyElsewhere, BodyLost, ClaimStoreUnavailable, UsageError
from flowq.large_bodies.local_folder import LocalFolder
from flowq.large_bodies.reference import Reference, is_claimed, is_in_the_store, packing_in_the_store, redeemed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

T = TypeVar("T")
MISSING = 'pip install "flowq-streams[claim]"'
_SCHEMES = ("s3", "gs", "az")
_MARKER = ".name"
_MOST_MARKER_BYTES = 100
_AT_ONCE = 16
# Callers repeat a request for as long as it takes; these attempts only bridge short failures.
_ATTEMPTS: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
# The default of 30 seconds is too short for a large body on a slow network. Without TLS only if the endpoint says so.
_REQUESTS: ClientConfig = {"timeout": timedelta(minutes=5), "allow_http": True}
_QUERY = re.compile(r"\?\S*")

_used_in_process: int | None = None


class BodyStore:
    """The large bodies of one pipeline: `LOCATION/NAMESPACE/PIPELINE/<2 hex>/<30 hex>`.

    Each body gets an unused name, so that a late worker cannot touch what a faster one has published. A marker object
    holds the name of the store, so that an empty mount point or another store is not mistaken for it: other workers
    would not find what was written there.
    """

    def __init__(self, location: str | Path, namespace: str, pipeline: str, *, is_own: bool = False) -> None:
        """`is_own`: a folder that flowq creates when it is missing. Raises UsageError for a URL it cannot use."""
        self.location = _normalised(str(location))
        self.has_stored = False  # since this process began
        self.name = ""  # once it has been verified: flowq.broker.claims
        self._prefix = f"{namespace}/{pipeline}/"
        is_url = "://" in self.location
        self._folder = None if is_url else LocalFolder(Path(self.location), self._prefix, is_own=is_own)
        self._opened: ObjectStore | None = None
        self._synced: set[str] = set()  # those of the 256 folders whose own entry is on disk
        # Not the executor of the event loop: user code may occupy all its threads. And not the coroutines of obstore:
        # its own threads then wait for the GIL, which aborts a process that ends at that moment.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="flowq-claims")

    def __str__(self) -> str:
        return f"{self.location.rstrip('/')}/{self._prefix.rstrip('/')}"

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # Which store it is

    async def name_in_store(self) -> str:
        """The name of the store, "" if it has none yet. Raises ClaimStoreUnavailable."""
        found = await self._read(_MARKER, _MOST_MARKER_BYTES)
        return text_in(found[0]) if found else ""

    async def take_name(self, name: str) -> None:
        """Name the store; all workers use the same name. Raises ClaimStoreUnavailable."""
        with self._translated():
            if self._folder is not None:
                await self._run(self._folder.make)
        await self._write(_MARKER, name.encode())
        await self._sync("")

    async def _refuse_another(self) -> None:
        """Raise ClaimStoreUnavailable if this is not the store itself, but the empty mount point of a folder."""
        name = await self.name_in_store()
        if not name or self.name not in ("", name):
            raise self._unavailable("it is not the store that was used before")

    # Writing

    async def store(self, bodies: Sequence[bytes]) -> list[Reference]:
        """Write bodies durably. Raises ClaimStoreUnavailable, and leaves none of them then."""
        folder = secrets.token_hex(1)  # one for all of them, since it is synced as well
        paths = [f"{folder}/{secrets.token_hex(15)}" for _ in bodies]
        self.has_stored = True
        if self._folder is not None:  # a bucket cannot be unmounted
            await self._refuse_another()
        writing = [self._write(path, body) for path, body in zip(paths, bodies, strict=True)]
        try:
            for failure in await asyncio.gather(*writing, return_exceptions=True):
                if failure is not None:
                    raise failure
            await self._sync(folder, *([] if folder in self._synced else [""]))
            self._synced.add(folder)
        except ClaimStoreUnavailable:
            with contextlib.suppress(ClaimStoreUnavailable):
                await self.remove(paths)
            raise
        return [Reference(path, len(body)) for path, body in zip(paths, bodies, strict=True)]

    async def try_to_write(self) -> None:
        """Raise ClaimStoreUnavailable if nothing can be written. Leaves no object."""
        with self._translated():
            if self._folder is not None:
                await self._run(self._folder.check)
            objects, probe = await self._objects(), f".{secrets.token_hex(8)}"
            await self._run(objects.put, probe, b"")
            await self._run(objects.delete, probe)

    async def remove(self, paths: Sequence[str]) -> None:
        """Delete bodies; one that is gone is no error. Raises ClaimStoreUnavailable."""
        await self._refuse_another()  # otherwise files of an unmounted folder would count as deleted
        with self._translated():
            if self._folder is not None:
                await self._run(self._folder.remove, paths)
                return
            objects, names = await self._objects(), [self._prefix + path for path in paths]
            try:
                await self._run(objects.delete, names)
            except FileNotFoundError:  # from Google and Azure, and the others may not have been deleted
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        await self._run(objects.delete, name)

    async def refresh(self, paths: Sequence[str]) -> None:
        """Update the modification time of bodies that no message refers to yet, so that they are not orphans."""
        with contextlib.suppress(ClaimStoreUnavailable), self._translated():
            if self._folder is not None:
                await self._run(self._folder.touch, paths)
                return
            objects = await self._objects()
            for path in paths:  # no store has a request for it
                if found := await self._run(_fetched, objects, self._prefix + path, sys.maxsize):
                    await self._write(path, found[0])

    async def _write(self, path: str, body: bytes) -> None:
        with self._translated():
            objects = await self._objects()
            # In one part: the parts of an upload that was interrupted would stay in the bucket, and be paid for.
            await self._run(partial(objects.put, self._prefix + path, body, use_multipart=False))
        await self._sync(path)

    async def _sync(self, *paths: str) -> None:
        if self._folder is not None:
            with self._translated():
                await self._run(self._folder.sync, paths)

    # Reading

    async def load(self, stored: bytes) -> bytes:
        """The body of a stored reference.

        Raises BodyElsewhere if the store cannot be read, and BodyLost if the store does not have the body.
        """
        reference = Reference.decode(stored)
        try:
            found = await self._read(reference.path, reference.n_bytes)
            if found is None:
                await self._refuse_another()
                found = await self._read(reference.path, reference.n_bytes)  # the right store may just have come back
        except ClaimStoreUnavailable as error:
            text = f"the body is in {self}, which cannot be read here"
            raise BodyElsewhere(text, hint=error.hint, detail=error.detail) from None
        hint = f"restore it to {self}, then retry the dead letter: flowq dlq retry"
        if found is None:
            raise BodyLost(f"the claim store has no object {reference.path}", hint=hint)
        body, n_bytes = found
        if not len(body) == n_bytes == reference.n_bytes:
            text = f"object {reference.path} of the claim store has {n_bytes:,} bytes, not {reference.n_bytes:,}"
            raise BodyLost(text, hint=hint)
        return body

    async def _read(self, path: str, most_bytes: int) -> tuple[bytes, int] | None:
        """An object and its size; None if it does not exist. Above `most_bytes` the content is incomplete."""
        with self._translated():
            if self._folder is not None:
                return await self._run(self._folder.read, path, most_bytes)
            return await self._run(_fetched, await self._objects(), self._prefix + path, most_bytes)

    async def bodies(self, *, before: float) -> dict[str, int]:
        """The paths and sizes of the bodies last written before a point in time. Raises ClaimStoreUnavailable."""
        with self._translated():
            if self._folder is not None:
                return await self._run(self._folder.files, before)
            return await self._run(_listed, await self._objects(), self._prefix, before)

    # obstore

    async def _objects(self) -> ObjectStore:
        """The store as obstore sees it, opened when it is first needed."""
        global _used_in_process
        if _used_in_process not in (None, os.getpid()):
            raise self._unavailable(
                "the threads of obstore do not survive a fork",
                hint="store no large bodies before the fork, or start processes with spawn",
            )
        if self._opened is None:
            try:
                from obstore.store import LocalStore, from_url
            except ImportError:
                raise self._unavailable("obstore is not installed", hint=MISSING) from None
            if self._folder is not None:
                await self._run(self._folder.check)
            _used_in_process = os.getpid()
            self._opened = (
                from_url(self.location, client_options=_REQUESTS, retry_config=_ATTEMPTS)
                if self._folder is None
                else LocalStore(self.location)
            )
        return self._opened

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        """Raise every failure of the store as ClaimStoreUnavailable."""
        try:
            yield
        except ClaimStoreUnavailable:
            raise
        except Exception as error:
            # Not the debug output that follows; and the query of a URL may hold a signature.
            raise self._unavailable(_QUERY.sub("", str(error).partition("\n")[0])) from error

    def _unavailable(self, detail: str, *, hint: str = "") -> ClaimStoreUnavailable:
        check = "check that it exists, the credentials in the environment, and the network"
        if self._folder is not None:
            check = "check that it is mounted, has free space, and is writable by this user"
        return ClaimStoreUnavailable(f"cannot use the claim store {self.location}", hint=hint or check, detail=detail)


def _fetched(objects: ObjectStore, name: str, most_bytes: int) -> tuple[bytes, int] | None:
    try:
        found = objects.get(name)
    except FileNotFoundError:
        return None
    n_bytes = found.meta["size"]
    return b"" if n_bytes > most_bytes else bytes(found.bytes()), n_bytes


def _listed(objects: ObjectStore, prefix: str, before: float) -> dict[str, int]:
    found: dict[str, int] = {}
    for page in objects.list(prefix):  # pyright: ignore[reportUnknownMemberType]  (untyped with Arrow)
        for each in page:
            path = each["path"].removeprefix(prefix)
            if path != _MARKER and each["last_modified"].timestamp() < before:
                found[path] = each["size"]
    return found


def _normalised(location: str) -> str:
    """A URL as it is, a folder as an absolute path."""
    if "://" not in location:
        return str(Path(location).absolute())
    parts = urlsplit(location)
    if parts.scheme == "file":
        return unquote(parts.path)
    if parts.scheme not in _SCHEMES or not parts.netloc or "@" in parts.netloc or parts.query:
        raise UsageError(
            f"a claim store cannot be a URL like this one ({parts.scheme}://)",  # which may hold a password
            hint="a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; "
            "credentials are read from the environment",
        )
    return location


async def redeem(store: BodyStore | None, delivery: Delivery) -> Delivery:
    """A delivery with its body, if the store is known: to read, not to settle. Raises DecodeError."""
    if store is None or not is_claimed(delivery.header_bytes):
        return delivery
    return redeemed(delivery, await store.load(delivery.body))


async def content_of(store: BodyStore | None, header: Header, body: bytes) -> bytes:
    """A stored body as its stage would get it, wherever it is stored. Raises DecodeError."""
    how = header.packing
    if store is not None and is_in_the_store(header):
        body, how = await store.load(body), packing_in_the_store(header)
    return unpacked(body, how) if how else body
