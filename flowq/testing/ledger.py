"""A sink for effects outside of flowq, that knows which are missing and which came twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

from flowq.testing.verdicts import NotAsExpected

__tracebackhide__ = True  # pytest shows the line of the test

_MOST_SHOWN = 5


class Ledger:
    """Counts the effects of a pipeline by key: what a test passes to handlers instead of a database or a mail server.

    flowq calls handlers at least once: a worker that dies between an effect and its settlement leaves a message that
    runs again. Whether an effect bears that is what a ledger shows, with a harness that makes workers die.

    is_idempotent: whether the real sink accepts the same effect twice, as an upsert by primary key does. Then a key may
        be noted again with an equal value, and only other values are wrong. By default each key may be noted once.

    Handlers on threads may share a ledger. Values are kept as they are: do not change them after they are noted.

    >>> ledger = Ledger()
    >>> ledger.expect(["a-1", "a-2", "a-3"])
    >>> ledger.note("a-1", 10)
    >>> ledger.note("a-1", 10)
    >>> ledger.note("a-3", 7)
    >>> ledger.missing, ledger.doubled
    (['a-2'], ['a-1'])
    >>> ledger.check()
    Traceback (most recent call last):
    flowq.testing.verdicts.NotAsExpected: error[FQ603]: the ledger does not add up
      missing: 'a-2'
      doubled: 'a-1' (2 times)
      hint: an effect that may come twice needs a key that stays the same, such as ctx.message_id
    """

    def __init__(self, *, is_idempotent: bool = False) -> None:
        self._is_idempotent = is_idempotent
        self._values: dict[Hashable, list[Any]] = {}
        self._expected: dict[Hashable, None] | None = None
        self._lock = Lock()

    def note(self, key: Hashable, value: Any = None) -> None:
        """An effect has happened. The key must be the one by which the real sink would tell effects apart."""
        with self._lock:
            self._values.setdefault(key, []).append(value)

    def expect(self, keys: Iterable[Hashable]) -> None:
        """Add keys that must be noted by the end. Once keys are expected, all others are unexpected."""
        self._expected = {**(self._expected or {}), **dict.fromkeys(keys)}

    @property
    def noted(self) -> Mapping[Hashable, Sequence[Any]]:
        """The values of each key, in the order in which they were noted."""
        with self._lock:
            return {key: tuple(values) for key, values in self._values.items()}

    @property
    def missing(self) -> list[Hashable]:
        """The expected keys that were never noted."""
        noted = self.noted
        return [key for key in self._expected or () if key not in noted]

    @property
    def unexpected(self) -> list[Hashable]:
        """The keys that were noted, but are not among those expected; none if nothing is expected."""
        return [] if self._expected is None else [key for key in self.noted if key not in self._expected]

    @property
    def doubled(self) -> list[Hashable]:
        """The keys noted more than once: the repeated and the conflicting ones."""
        return [key for key, values in self.noted.items() if len(values) > 1]

    @property
    def repeated(self) -> list[Hashable]:
        """The keys noted more than once, each time with an equal value."""
        conflicting = set(self.conflicting)
        return [key for key in self.doubled if key not in conflicting]

    @property
    def conflicting(self) -> list[Hashable]:
        """The keys noted with different values."""
        return [key for key, values in self.noted.items() if any(value != values[0] for value in values)]

    def check(self) -> None:
        """Raise NotAsExpected, naming the keys, unless every expected key and no other was noted, and none wrongly."""
        noted = self.noted
        findings = {
            "missing": [repr(key) for key in self.missing],
            "unexpected": [repr(key) for key in self.unexpected],
            "doubled": [] if self._is_idempotent else [f"{key!r} ({len(noted[key])} times)" for key in self.repeated],
            "conflicting": [f"{key!r} ({', '.join(map(repr, noted[key]))})" for key in self.conflicting],
        }
        if lines := [f"{name}: {_shown(keys)}" for name, keys in findings.items() if keys]:
            hint = "an effect that may come twice needs a key that stays the same, such as ctx.message_id"
            raise NotAsExpected("the ledger does not add up", detail="\n  ".join(lines), hint=hint)


def _shown(keys: Sequence[str]) -> str:
    n_more = len(keys) - _MOST_SHOWN
    return ", ".join(keys[:_MOST_SHOWN]) + (f" and {n_more} more" if n_more > 0 else "")
