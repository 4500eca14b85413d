"""The reference to a body in the claim store, and the header word that marks it: `e=file`, `e=file+zstd`."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import NamedTuple

from flowq.delivery.encoding.compression import IN_THE_STORE
from flowq.delivery.message import Delivery, Header, Row
from flowq.errors import BodyLost

_WORD = b" e="
_MARK = _WORD + IN_THE_STORE.encode()
_WRITTEN = re.compile(rb"([0-9a-f]{2}/[0-9a-f]{30}) ([0-9]{1,12})")


class Reference(NamedTuple):
    """The path of a body within the claim store of its pipeline, and its size there.

    >>> Reference.decode(Reference("ab/" + 30 * "0", 1_048_576).encode()).n_bytes
    1048576
    """

    path: str
    n_bytes: int

    def encode(self) -> bytes:
        """The bytes that are stored instead of the body."""
        return f"{self.path} {self.n_bytes}".encode()

    @classmethod
    def decode(cls, raw: bytes) -> Reference:
        """Raises BodyLost for anything but the result of `encode`: an entry is not trusted, and could name any file."""
        found = _WRITTEN.fullmatch(raw)
        if found is None:
            raise BodyLost("not a reference to a body in the claim store", hint="send the message again")
        return cls(found[1].decode(), int(found[2]))


def is_claimed(header: bytes) -> bool:
    """Whether the body that belongs to a stored header is in the claim store."""
    return _MARK in header


def claimed_header(header: bytes) -> bytes:
    """The header of a message whose body has been moved there.

    >>> claimed_header(b"b7 a1 a1 1 e=zstd"), claimed_header(b"b7 a1 a1 1")
    (b'b7 a1 a1 1 e=file+zstd', b'b7 a1 a1 1 e=file')
    """
    return header.replace(_WORD, _MARK + b"+", 1) if _WORD in header else header + _MARK


def is_in_the_store(header: Header) -> bool:
    """The same as `is_claimed` for a decoded header."""
    return header.packing.partition("+")[0] == IN_THE_STORE


def packing_in_the_store(header: Header) -> str:
    """How a body in the store is compressed, "" if it is not."""
    return header.packing.partition("+")[2]


def stored_bytes(row: Row) -> int:
    """The size of a body as it is stored, in Redis or outside."""
    _, _, header, body, _ = row
    if is_claimed(header):
        with contextlib.suppress(BodyLost):
            return Reference.decode(body).n_bytes
    return len(body)


def redeemed(delivery: Delivery, body: bytes) -> Delivery:
    """A copy of a delivery that holds its body itself: to be read, not to be settled."""
    header = replace(delivery.header, packing=packing_in_the_store(delivery.header)).encode()
    return delivery._replace(header_bytes=header, body=body)
