"""The earlier deaths of a message that was put back to run again, carried in its header."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from flowq.delivery.message import Header
from flowq.delivery.stored import moment_in, text_of

_MOST_DEATHS, _LONGEST_ERROR = 5, 160


class Death(NamedTuple):
    """One earlier death: when, in milliseconds since 1970, after how many attempts, and the error in one line."""

    died_ms: int
    attempts: int
    error: str


def was_put_back(header: Header) -> bool:
    """Whether a message was a dead letter or kept, and runs again."""
    return bool(header.past)


def deaths_of(header: Header) -> tuple[Death, ...]:
    """The earlier deaths of a message, the oldest first; none if its history cannot be read."""
    if not header.past:
        return ()
    try:
        deaths: Any = orjson.loads(urlsafe_b64decode(header.past))
        return tuple(_death(*death) for death in deaths[-_MOST_DEATHS:])
    except (ValueError, TypeError, KeyError):  # written by another version, or by hand
        return ()


def _death(died_ms: object, attempts: object, error: object) -> Death:
    """Raises ValueError for values that `put_back` does not write."""
    if type(died_ms) is not int or type(attempts) is not int or not 0 <= attempts < 10**15:
        raise ValueError("not a death")
    return Death(moment_in(died_ms), attempts, text_of(error)[:_LONGEST_ERROR])


def put_back(header: Header, death: Death) -> Header:
    """The header with which a dead letter runs again: the same message, its attempts reset, this death added.

    To keep the header small, it holds the last five deaths and the first 160 characters of each error.

    >>> back = put_back(Header("b7", "a1", "a1", 1, attempt=5), Death(1700000000000, 5, "ValueError: no"))
    >>> back.attempt, [death.error for death in deaths_of(Header.decode(back.encode()))]
    (1, ['ValueError: no'])
    """
    deaths = (*deaths_of(header), death._replace(error=death.error[:_LONGEST_ERROR]))[-_MOST_DEATHS:]
    return _again(header, deaths)


def replayed(header: Header) -> Header:
    """The header with which a kept message runs again. Its record of deaths, even an empty one, says so.

    >>> was_put_back(Header("b7", "a1", "a1", 1)), was_put_back(replayed(Header("b7", "a1", "a1", 1)))
    (False, True)
    """
    return _again(header, deaths_of(header))


def _again(header: Header, deaths: tuple[Death, ...]) -> Header:
    past = urlsafe_b64encode(orjson.dumps([tuple(each) for each in deaths])).decode()
    return replace(header.replayed(), past=past)
