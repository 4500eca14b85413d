"""Standard output for handlers: when its reader has gone (`flowq run ... | head`), printing is no failure."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Outlet(io.RawIOBase):
    """Writes to a descriptor; once nobody reads it any more, what is written is thrown away."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return os.write(self._descriptor, data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            return os.write(self._descriptor, data)


def forgiving_stdout() -> io.TextIOWrapper:
    """A stream like `sys.stdout`, on the same descriptor."""
    now = sys.stdout
    line_buffering = bool(getattr(now, "line_buffering", False))
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlet(now.fileno())), now.encoding, now.errors, line_buffering=line_buffering
    )
