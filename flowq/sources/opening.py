"""Opens files, compressed or not, members of archives, and standard input, as decompressed bytes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from flowq.delivery.encoding.compression import zstd_library
from flowq.errors import UsageError
from flowq.sources.position import stat_word

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

STDIN = "-"
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass(frozen=True, slots=True)
class Readable:
    """Something that holds rows. `name` identifies it in positions and dead letters.

    `stat` shows whether it has changed on disk; "" if that cannot be told. `can_jump`: one can seek in it.
    """

    name: str
    open: Callable[[], AbstractContextManager[Any]]
    stat: str = ""
    can_jump: bool = False

    @property
    def is_stdin(self) -> bool:
        return self.name == STDIN

    @property
    def called(self) -> str:
        return "standard input" if self.is_stdin else self.name


def readables(file: str, suffixes: Sequence[str]) -> Iterator[Readable]:
    """A file itself; of an archive, each member with one of the suffixes, or its only member."""
    if file == STDIN:
        yield Readable(STDIN, _standard_input)
        return
    path = Path(file)
    stat = stat_word(path.stat(), time.time_ns())
    suffix = path.suffix.lower()
    if suffix != ".zip":
        yield Readable(file, lambda: _unpacked(path.open("rb"), suffix), stat, can_jump=suffix not in PACKED)
        return
    from zipfile import ZipFile

    with ZipFile(path) as archive:
        for member in _members(archive, suffixes):
            name = member.filename.replace("\\", "/")
            yield Readable(f"{file}/{name}", partial(_member, archive, member), stat)


def _members(archive: ZipFile, suffixes: Sequence[str]) -> list[ZipInfo]:
    """The files that people have put in: some systems add folders, or files of their own."""
    members: dict[str, ZipInfo] = {}
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if parts[-1] and not parts[-1].startswith(".") and parts[0] != "__MACOSX":
            members["/".join(parts)] = info
    if len(members) == 1:
        return list(members.values())
    return [members[name] for name in sorted(members) if has_suffix(name, suffixes)]


def has_suffix(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a file has one of the suffixes, compressed or not."""
    name = name.rpartition("/")[2].lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return name.endswith(tuple(suffixes)) and not name.startswith(".")


@contextmanager
def _member(archive: ZipFile, member: ZipInfo) -> Generator[Any]:
    with archive.open(member) as stream, _unpacked(stream, Path(member.filename).suffix.lower()) as unpacked:
        yield unpacked


@contextmanager
def _unpacked(stream: Any, suffix: str) -> Generator[Any]:
    with stream:
        match suffix:
            case ".gz":
                import gzip

                if not stream.peek(1):
                    raise EOFError("it is empty, so not a gzip file")
                unpacked: Any = gzip.GzipFile(fileobj=stream)
            case ".bz2":
                import bz2

                unpacked = bz2.BZ2File(stream)
            case ".xz":
                import lzma

                unpacked = lzma.LZMAFile(stream)  # noqa: SIM115  (closed below)
            case ".zst":
                unpacked = _zstd_file(stream)
            case _:
                yield stream
                return
        with unpacked:
            yield unpacked


def _zstd_file(stream: Any) -> Any:
    zstd = zstd_library()
    if zstd is None:
        raise UsageError("reading .zst files needs zstd", hint="pip install flowq-streams[zstd]")
    return zstd.ZstdFile(stream)


@contextmanager
def _standard_input() -> Generator[Any]:
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise UsageError(
            "standard input is closed, or the worker that read it has died",
            hint="run it again with the same input: it resumes where it stopped",
        )
    yield cast("Any", stdin.buffer)
