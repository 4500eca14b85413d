"""The trace that a message belongs to: one word of its header, as W3C `traceparent` writes it."""

from __future__ import annotations

_WORD = b" w="


def traceparent_of(header: bytes) -> str | None:
    """The trace context that a stored header carries.

    >>> traceparent_of(b"b7 a1 a1 1 a=2 w=00-0af7-b7ad-01")
    '00-0af7-b7ad-01'
    >>> traceparent_of(b"b7 a1 a1 1")
    """
    _, found, rest = header.partition(_WORD)
    return rest.partition(b" ")[0].decode(errors="replace") if found else None


def with_traceparent(header: bytes, traceparent: str) -> bytes:
    """A stored header with a trace context added. Retries and replays keep it, as they keep every unknown word.

    >>> with_traceparent(b"b7 a1 a1 1", "00-0af7-b7ad-01")
    b'b7 a1 a1 1 w=00-0af7-b7ad-01'
    """
    return header + _WORD + traceparent.encode()
