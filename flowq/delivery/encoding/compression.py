"""Compresses large bodies and decompresses them. The header names the method, so that any worker can undo it."""

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
"""The most bytes that a body may decompress to: otherwise a few kilobytes from outside could fill memory."""

_ZSTD, _ZLIB = "zstd", "zlib"
IN_THE_STORE = "file"
"""Marks a body that is stored in the claim store: flowq.large_bodies.reference."""


def packed(body: bytes) -> tuple[bytes, str]:
    """The compressed body and the name of the method; the body itself and "" if compression would not shrink it.

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
    """The decompressed body. Raises DecodeError for damaged bytes and for a method that is not known here.

    Raises BodyElsewhere for a reference to a body in the claim store.
    """
    if how.partition("+")[0] == IN_THE_STORE:
        raise BodyElsewhere(
            "the body is in the claim store, which is not configured here",
            hint="set claim_store, or FLOWQ_CLAIM_STORE, to the store that all workers of the pipeline share",
        )
    decompressor = _decompressor(how)
    try:
        content: bytes = decompressor.decompress(body, MOST_UNPACKED + 1)
    except Exception as error:  # noqa: BLE001  (zlib and zstd share no base class for their errors)
        raise DecodeError(f"damaged {how} data", detail=str(error)) from None
    if len(content) > MOST_UNPACKED:
        raise DecodeError(f"{how} data of more than {MOST_UNPACKED:,} bytes")
    if not decompressor.eof:
        raise DecodeError(f"damaged {how} data", detail="it is truncated")
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
    """The module, from the standard library or its backport; None if neither is installed."""
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return None
