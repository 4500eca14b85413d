"""The failed attempts of a message that is tried again, carried in its header."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from flowq.delivery.dead_letter import error_line
from flowq.delivery.fingerprint import without_numbers
from flowq.delivery.message import Header
from flowq.delivery.settlement import Failed
from flowq.delivery.stored import moment_in, text_of
from flowq.printable import spelled_out

_MOST_FAILURES, _LONGEST_ERROR, _LONGEST_PLACE = 3, 160, 120
_MOST_TIMES, _LONGEST_TIMES = 20, 1000
_MOST_ATTEMPTS = 10**15
_TIME = re.compile(r"([1-9][0-9]{0,14}):([0-9]{1,15})")
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


class Attempt(NamedTuple):
    """An attempt that failed at a known time; or those from the `first` to the `last` whose times are not known.

    `at_ms` is in milliseconds since 1970. `error` is that of the attempt, or of a later one that failed alike; "" if it
    is no longer known.
    """

    first: int
    last: int
    error: str
    place: str
    at_ms: int | None


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


def attempts_of(header: Header) -> tuple[Attempt, ...]:
    """The known failed attempts of a message, the oldest first.

    >>> header = Header.decode(stored_without_time(Header("b7", "a1", "a1", 1), 1) + b"1700000000000")
    >>> attempts_of(header)
    (Attempt(first=1, last=1, error='', place='', at_ms=1700000000000),)
    """
    left, found = deque(_times_of(header)), list[Attempt]()
    failures = failures_of(header)
    for failure, later in zip(failures, (*failures[1:], None), strict=False):
        while left and left[0][0] < failure.first:
            found.append(_unexplained(*left.popleft()))
        own: list[tuple[int, int]] = []
        while left and left[0][0] <= failure.last and not (later and _is_first_of(later, left)):
            own.append(left.popleft())
        found += _with_times(failure, own)
    return (*found, *(_unexplained(*each) for each in left))


def _is_first_of(failure: Failure, left: Sequence[tuple[int, int]]) -> bool:
    """Whether the next time is that of a failure: after a hold, which counts as no attempt, two have one number."""
    return left[0][0] >= failure.first and (len(left) == 1 or left[1][0] != left[0][0])


def _with_times(failure: Failure, times: Sequence[tuple[int, int]]) -> Iterator[Attempt]:
    """The attempts of a failure; between those with times, those without are one."""
    _, _, error, place = failure
    expected = failure.first
    for number, at_ms in times:
        if number > expected:
            yield Attempt(expected, number - 1, error, place, None)
        yield Attempt(number, number, error, place, at_ms)
        expected = number + 1
    if expected <= failure.last:
        yield Attempt(expected, failure.last, error, place, None)


def _unexplained(number: int, at_ms: int) -> Attempt:
    return Attempt(number, number, "", "", at_ms)


def stored_without_time(header: Header, attempt: int) -> bytes:
    """The header of a message that is tried again after this attempt; Redis appends the time in milliseconds."""
    times = [f"{number}:{at_ms}" for number, at_ms in _times_of(header)[1 - _MOST_TIMES :]]
    return b"%b m=%b:" % (replace(header, failed_at="").encode(), ".".join((*times, str(attempt))).encode())


def _times_of(header: Header) -> list[tuple[int, int]]:
    """Attempts that have failed and when, the oldest first."""
    found = [_TIME.fullmatch(word) for word in header.failed_at[:_LONGEST_TIMES].split(".")]
    times = [(int(each[1]), moment_in(each[2])) for each in found if each]
    return [each for each in times if each[0] <= header.attempt][-_MOST_TIMES:]


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
