"""What a message died of before it was put back: carried in its header, so that it goes wherever the message goes."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import NamedTuple

from flowq.delivery.message import Header

_MOST_DEATHS, _LONGEST_ERROR = 5, 160


class Death(NamedTuple):
    """One earlier death: when, in milliseconds since 1970, after how many attempts, and the error in one line."""

    died_ms: int
    attempts: int
    error: str


def deaths_of(header: Header) -> tuple[Death, ...]:
    """The earlier deaths of a message, the oldest first; none if its history cannot be read."""
    if not header.past:
        return ()
    try:
        return tuple(Death(int(at), int(n), str(error)) for at, n, error in json.loads(urlsafe_b64decode(header.past)))
    except (ValueError, TypeError):  # another version's, or somebody's hand
        return ()


def put_back(header: Header, death: Death) -> Header:
    """The header with which a dead letter runs again: the same message, attempts counted anew, this death remembered.

    The last five deaths are kept, of each error the first 160 characters: a header shall stay small.

    >>> back = put_back(Header("b7", "a1", "a1", 1, attempt=5), Death(1700000000000, 5, "ValueError: no"))
    >>> back.attempt, [death.error for death in deaths_of(Header.decode(back.encode()))]
    (1, ['ValueError: no'])
    """
    deaths = (*deaths_of(header), death._replace(error=death.error[:_LONGEST_ERROR]))[-_MOST_DEATHS:]
    past = urlsafe_b64encode(json.dumps(deaths, separators=(",", ":")).encode()).decode()
    return replace(header.replayed(), past=past)
