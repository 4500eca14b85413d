"""The failed attempts of a message that is tried again, carried in its header."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from flowq.delivery.dead_letter import error_line
from flowq.delivery.fingerprint import without_numbers
from flowq.delivery.message import Header
from flowq.delivery.settlement import Failed
from flowq.delivery.stored import text_of
from flowq.printable import spelled_out

_MOST_FAILURES, _LONGEST_ERROR, _LONGEST_PLACE = 3, 160, 120
_MOST_ATTEMPTS = 10**15
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Failure(NamedTuple):
    """Attempts in a row that failed alike, from the `first` to the `last` of them.

    `error` is that of the last one, in one line, and `place` its file and line in the user's code, "" if unknown.
    """

    first: int
    last: int
    error: str
    place: str

    @property
    def kind(self) -> str:
        """The name of this kind of failure: the error without its numbers and quoted parts, and the place.

        >>> Failure(1, 1, "KeyError: 'a7'", "shop.py:3").kind == Failure(2, 5, "KeyError: 'b9'", "shop.py:3").kind
        True
        """
        told = f"{without_numbers(_QUOTED.sub('#', self.error))}\0{self.place}"
        return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def failures_of(header: Header) -> tuple[Failure, ...]:
    """What is known of the failed attempts of a message, the oldest first: at most the last three kinds."""
    found = [failure for word in header.failures.split(".")[:_MOST_FAILURES] if (failure := failure_in(word))]
    # A version that does not know this word has kept it where it put a dead letter back: the attempts of another life.
    return tuple(failure for failure in reversed(found) if failure.last <= header.attempt)


def after_failure(header: Header, attempt: int, failed: Failed) -> tuple[Header, Failure]:
    """The header with which a message is tried again after this attempt, and the failure.

    To keep the header small, it holds the last three kinds of failure, the first 160 characters of each error and the
    last 120 of its place.

    >>> header, _ = after_failure(Header("b7", "a1", "a1", 1, attempt=2), 1, Failed(ValueError("bad price")))
    >>> [(failure.last, failure.error) for failure in failures_of(Header.decode(header.encode()))]
    [(1, 'ValueError: bad price')]
    """
    place = spelled_out(str(failed.place or ""))[-_LONGEST_PLACE:]
    failure = Failure(attempt, attempt, error_line(failed.error)[:_LONGEST_ERROR], place)
    earlier = failures_of(header)
    if earlier and earlier[-1].kind == failure.kind and attempt - earlier[-1].last <= 1:
        failure = failure._replace(first=earlier[-1].first)
        earlier = earlier[:-1]
    words = [_word(each) for each in (*earlier, failure)[-_MOST_FAILURES:]]
    return replace(header, failures=".".join(reversed(words))), failure


def failure_in(word: str) -> Failure | None:
    """One failure as the header has it; None for anything that `after_failure` does not write."""
    try:
        first, last, error, place = orjson.loads(urlsafe_b64decode(word))
    except (ValueError, TypeError):
        return None
    if type(first) is not int or type(last) is not int or not 0 < first <= last < _MOST_ATTEMPTS:
        return None
    return Failure(first, last, text_of(error)[:_LONGEST_ERROR], text_of(place)[-_LONGEST_PLACE:])


def _word(failure: Failure) -> str:
    values: list[Any] = list(failure)
    return urlsafe_b64encode(orjson.dumps(values)).decode()
