"""Standard output and error of flowq's processes: usable even if they are closed, full, or not UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from flowq.errors import FlowqError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SPELLED_OUT = "flowq.spelled_out"
r"""The error handler of output: what the encoding lacks is written as \u00fc, which means the same in JSON."""

_ENDS_OF_STANDARD_STREAMS = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
_LONGEST_BEGUN = 8192  # characters
_MOST_BEGUN = 1000  # lines


class OutputLost(FlowqError):
    """Standard output cannot be written, for example because a disk is full."""

    code = "FQ212"


class Outlet(io.RawIOBase):
    """Writes to a descriptor. A forgiving one discards what cannot be written, and keeps the first reason.

    Otherwise it raises BrokenPipeError if the reader is gone, or else OutputLost.
    """

    def __init__(self, descriptor: int, *, forgiving: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._forgiving = forgiving
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it: without a buffer in between, the text layer above would not retry."""
        left = memoryview(data).cast("B")
        n_bytes = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another process has made the pipe that we share non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                return self._without_output(error, n_bytes)
        return n_bytes

    def _without_output(self, error: OSError, n_bytes: int) -> int:
        self.lost = self.lost or error
        gone = isinstance(error, BrokenPipeError)
        if gone or not self._forgiving:  # the rest of the buffer must not fail again at interpreter exit
            discard(self._descriptor)
        if self._forgiving:
            return n_bytes
        if gone:
            raise error
        raise OutputLost("standard output cannot be written", detail=error.strerror or str(error)) from error


class WholeLines(io.TextIOWrapper):
    """A text stream for several threads that never mixes their lines: `print` writes a line and its end separately.

    The beginning of a line is kept until its thread ends the line or flushes the stream, or until it is too long. If
    the thread has ended, it is kept until `flush_all`, or until there are too many. The lock is needed because up to
    Python 3.12.4, a text stream loses lines that two threads write at the same time (python/cpython#119506).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[threading.Thread, str] = {}  # not by number: those of ended threads are used again
        self._writing = threading.RLock()

    def write(self, text: str, /) -> int:
        thread = threading.current_thread()
        ready = self._begun.pop(thread, "") + text
        end = ready.rfind("\n") + 1
        if end < len(ready) <= end + _LONGEST_BEGUN:
            ready, self._begun[thread] = ready[:end], ready[end:]
            if len(self._begun) > _MOST_BEGUN:
                self._write_of_ended_threads()
        if ready:
            with self._writing:
                super().write(ready)
        return len(text)

    def flush(self) -> None:
        """Write what this thread has begun."""
        begun = self._begun.pop(threading.current_thread(), "")
        with self._writing:
            if begun:
                super().write(begun)
            super().flush()

    def _write_of_ended_threads(self) -> None:
        with self._writing:
            for thread in list(self._begun):
                if not thread.is_alive():
                    super().write(self._begun.pop(thread, ""))

    def flush_all(self) -> None:
        """Write what every thread has begun."""
        with self._writing:
            while self._begun:
                super().write(self._begun.popitem()[1])
            super().flush()


def prepare_streams() -> None:
    """Make standard output and error usable. Call it first: the next file opened gets the number of a closed stream.

    Characters that the encoding lacks are spelled out. What cannot be written to standard error is discarded, since
    that could not be reported anywhere; see `Outlet` for standard output.
    """
    codecs.register_error(SPELLED_OUT, spelled_out)
    for descriptor, flags in enumerate(_ENDS_OF_STANDARD_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest free number, which is this one
    sys.stdout = _text(sys.stdout, 1, forgiving=False)
    sys.stderr = _text(sys.stderr, 2, forgiving=True)


def forgiving_stdout() -> io.TextIOWrapper:
    """A stream like `sys.stdout`, for handlers: they must not fail because their output cannot be written."""
    return _text(sys.stdout, 1, forgiving=True)


def loss_of(stream: IO[str] | None) -> OSError | None:
    """Why a forgiving stream has discarded output; None if it has not, or only because its reader was gone."""
    buffer = getattr(stream, "buffer", None)
    lost = getattr(getattr(buffer, "raw", buffer), "lost", None)
    return None if isinstance(lost, BrokenPipeError) else lost


def flush_and_discard() -> None:
    """Write what is buffered, and never fail: for the end of a process."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed by the user's code, perhaps
            stream.flush_all() if isinstance(stream, WholeLines) else stream.flush()


def discard(descriptor: int) -> None:
    """Discard everything written there from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def spelled_out(error: UnicodeError) -> tuple[str, int]:
    r"""Replace each character that cannot be encoded by \u and four digits.

    >>> spelled_out(UnicodeEncodeError("ascii", "für", 1, 2, ""))
    ('\\u00fc', 2)
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


def _text(stream: Any, descriptor: int, *, forgiving: bool) -> io.TextIOWrapper:
    """A stream to the same place, even if the original was closed at the start and is None."""
    descriptor = descriptor if stream is None else stream.fileno()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line_buffering = stream is not None and (bool(getattr(stream, "line_buffering", False)) or stream.isatty())
    write_through = bool(getattr(stream, "write_through", False))
    outlet = Outlet(descriptor, forgiving=forgiving)
    buffer: Any = outlet if write_through else io.BufferedWriter(outlet)  # PYTHONUNBUFFERED, as Python itself does it
    text = WholeLines if forgiving else io.TextIOWrapper
    return text(buffer, encoding, SPELLED_OUT, newline="\n", line_buffering=line_buffering, write_through=write_through)
