"""Makes large bodies smaller, and whole again. What was done stands in the header, so that any flowq can undo it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from flowq.errors import BodyElsewhere, DecodeError, UnknownType
from flowq.printable import printable

MOST_UNPACKED = 512_000_000
"""Bytes that a body may unpack to: a few kilobytes from outside could otherwise fill the memory."""

_ZSTD, _ZLIB = "zstd", "zlib"
IN_A_FILE = "file"
"""The body of a message with this word lies elsewhere: flowq.delivery.claim."""


def packed(body: bytes) -> tuple[bytes, str]:
    """A body compressed, and the word for how; as it was, and "", if that would not make it smaller.

    >>> smaller, how = packed(b"again and " * 1000)
    >>> len(smaller) < 100, unpacked(smaller, how) == b"again and " * 1000
    (True, True)
    """
    zstd = zstd_library()
    smaller: bytes = zlib.compress(body) if zstd is None else zstd.compress(body)
    if len(smaller) >= len(body):
        return body, ""
    return smaller, _ZLIB if zstd is None else _ZSTD


def unpacked(body: bytes, how: str) -> bytes:
    """The body again. Raises DecodeError for bytes that are damaged, and for a way that is not known here.

    Raises BodyElsewhere where not the body has been given, but a reference to it.
    """
    if how.partition("+")[0] == IN_A_FILE:
        raise BodyElsewhere(
            "the body lies in the claim folder, which is not known here",
            hint="set claim_folder, or FLOWQ_CLAIM_FOLDER, to the folder that all workers of the pipeline share",
        )
    decompressor = _decompressor(how)
    try:
        content: bytes = decompressor.decompress(body, MOST_UNPACKED + 1)
    except Exception as error:  # noqa: BLE001  (the two libraries have an error of their own each)
        raise DecodeError(f"damaged {how} data", detail=str(error)) from None
    if len(content) > MOST_UNPACKED:
        raise DecodeError(f"{how} data of more than {MOST_UNPACKED:,} bytes")
    if not decompressor.eof:
        raise DecodeError(f"damaged {how} data", detail="its end is missing")
    return content


def _decompressor(how: str) -> Any:
    make: Callable[[], Any] | None = zlib.decompressobj if how == _ZLIB else None
    if how == _ZSTD and (zstd := zstd_library()) is not None:
        make = zstd.ZstdDecompressor
    if make is None:
        hint = "pip install flowq-streams[zstd]" if how == _ZSTD else "run the version that sends it"
        raise UnknownType(f"a body compressed with {printable(how)}, which is not installed here", hint=hint)
    return make()


@cache
def zstd_library() -> Any:
    """The module, from the standard library or the wheel; None where there is neither."""
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return None
