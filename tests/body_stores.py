"""The stores of large bodies that tests use: a folder, and a bucket on an S3 server that runs in the test process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

_BUCKET, _ACCOUNT = "bodies", "123456789012"
_MARKER = ".name"


class AnyStore(Protocol):
    """A store as seen from outside. Paths are those of references: `ab/0123...`."""

    location: str

    def paths(self) -> list[str]: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, content: bytes) -> None: ...
    def delete(self, path: str) -> None: ...
    def age(self, *, days: float = 2) -> None:
        """Make all bodies look as if they had been written so long ago."""

    def another(self) -> str:
        """The location of another store, which is empty."""
        ...

    def vanish(self) -> None:
        """Make the store unreachable."""

    def be_emptied(self) -> None:
        """After `vanish`: leave something empty in its place, as an unmounted disk does."""

    def come_back(self) -> None: ...


class FolderStore:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)
        self._elsewhere = root.with_name(f"{root.name}-unmounted")
        root.mkdir()

    def _files(self) -> dict[str, Path]:
        files = [file for file in self.root.rglob("[!.]*") if file.is_file() or file.is_symlink()]
        return {f"{file.parent.name}/{file.name}": file for file in files}

    def paths(self) -> list[str]:
        return sorted(self._files())

    def file(self, path: str) -> Path:
        return self._files()[path]

    def read(self, path: str) -> bytes:
        return self.file(path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        (marker,) = self.root.rglob(_MARKER)
        (marker.parent / path).write_bytes(content)

    def delete(self, path: str) -> None:
        self.file(path).unlink()

    def age(self, *, days: float = 2) -> None:
        for file in self._files().values():
            then = file.stat().st_mtime - days * 86_400
            os.utime(file, (then, then))

    def another(self) -> str:
        other = self.root.with_name(f"{self.root.name}-other")
        other.mkdir()
        return str(other)

    def vanish(self) -> None:
        self.root.rename(self._elsewhere)

    def be_emptied(self) -> None:
        self.root.mkdir()

    def come_back(self) -> None:
        if self.root.exists():
            self.root.rmdir()  # fails if something was written to the mount point
        self._elsewhere.rename(self.root)


class BucketStore:
    """A prefix in the bucket of an S3 server in this process."""

    def __init__(self) -> None:
        self._prefix = uuid4().hex
        self.location = f"s3://{_BUCKET}/{self._prefix}"
        self._hidden: Any = None

    @property
    def _buckets(self) -> dict[str, Any]:
        buckets: dict[str, Any] = _backend().buckets
        return buckets

    def _objects(self) -> dict[str, str]:
        names = [name for name in self._buckets[_BUCKET].keys if name.startswith(f"{self._prefix}/")]
        return {"/".join(name.split("/")[-2:]): name for name in names if not name.rpartition("/")[2].startswith(".")}

    def paths(self) -> list[str]:
        return sorted(self._objects())

    def read(self, path: str) -> bytes:
        content: bytes = self._buckets[_BUCKET].keys[self._objects()[path]].value
        return content

    def write(self, path: str, content: bytes) -> None:
        (marker,) = [name for name in self._buckets[_BUCKET].keys if name.startswith(self._prefix) and _MARKER in name]
        _backend().put_object(_BUCKET, marker.replace(_MARKER, path), content)

    def delete(self, path: str) -> None:
        del self._buckets[_BUCKET].keys[self._objects()[path]]

    def age(self, *, days: float = 2) -> None:
        for name in self._objects().values():
            self._buckets[_BUCKET].keys[name].last_modified -= timedelta(days=days)

    def another(self) -> str:
        return f"s3://{_BUCKET}/{uuid4().hex}"

    def vanish(self) -> None:
        self._hidden = self._buckets.pop(_BUCKET)

    def be_emptied(self) -> None:
        empty = self._buckets[_BUCKET] = copy(self._hidden)
        empty.keys = type(empty.keys)()

    def come_back(self) -> None:
        if self._hidden is not None:
            self._buckets[_BUCKET], self._hidden = self._hidden, None


def _backend() -> Any:
    from moto.s3.models import s3_backends  # most tests do not need it, and it takes a second

    return s3_backends[_ACCOUNT]["aws"]


@contextmanager
def s3_server(port: int = 0) -> Iterator[Mapping[str, str]]:
    """An S3 server with a bucket; gives the variables with which it is found. All servers have the same data."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        if _BUCKET not in _backend().buckets:
            _backend().create_bucket(_BUCKET, "us-east-1")
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }  # fmt: skip
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_variables() -> Iterator[Mapping[str, str]]:
    """The S3 server shared by all tests."""
    with s3_server() as variables:
        yield variables


@pytest.fixture(params=["folder", "s3"])
def body_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnyStore]:
    """Runs the test on a folder, and on S3."""
    if request.param == "folder":
        yield FolderStore(tmp_path / "claims")
        return
    for name, value in request.getfixturevalue("s3_variables").items():
        monkeypatch.setenv(name, value)
    store = BucketStore()
    yield store
    store.come_back()
