"""Policies that a stage declares: retries, deduplication, rates, when to settle and what to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from pydantic_core import ValidationError

from flowq.delivery.error_groups import members_of
from flowq.delivery.placement import CELL_BYTES
from flowq.durations import seconds
from flowq.errors import Reject, UsageError

_ANY_GROUP: type[BaseException] = BaseExceptionGroup


class AckMode(StrEnum):
    """When a delivery is settled."""

    AFTER = "after"  # when the handler has succeeded: at least once
    FIRST = "first"  # on receipt, before the handler runs: at most once
    MANUAL = "manual"  # when the handler calls `await ctx.ack()`


Durability = Literal["local", "replicated"]
"""When a message that enters a pipeline counts as stored: once the server has it, or once a replica has it too."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many settled messages of a stage are kept, and for how long; 0 milliseconds means without a time limit."""

    count: int
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter.

    The delay before attempt n+1 is drawn evenly from 0 to min(max_seconds, base_seconds * 2**(n-1)), which spreads
    the retries of messages that failed together; without jitter it is that bound itself. The rule is Marc Brooker's
    "full jitter" (AWS Architecture Blog, 2015).

    >>> Backoff(base_seconds=0.5, max_seconds=60.0, full_jitter=False).delay_seconds(attempt=3, jitter=0.1)
    2.0
    >>> Backoff(base_seconds=0.5, max_seconds=60.0).delay_seconds(attempt=3, jitter=0.5)
    1.0
    """

    base_seconds: float = 0.5
    max_seconds: float = 60.0
    full_jitter: bool = True

    def delay_seconds(self, *, attempt: int, jitter: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `jitter` is a number from 0 to 1."""
        # 2**attempt of a message that retries forever would overflow a float
        bound = min(self.max_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))
        return bound * jitter if self.full_jitter else bound


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How many attempts a message has, and which errors are worth another one.

    An error is retried if it is an instance of `on` and not of `give_up_on`; any other goes to the dead letters at
    once. Failed pydantic validation and UsageError are never retried, because they would fail again. A group of errors
    is retried if one of its errors would be. The delay doubles with each attempt, and is random between 0 and that
    bound, which spreads the retries of messages that failed together.

    attempts: how many times the handler runs, the first included (5).
    base, max: the bound of the first delay and of all delays: seconds, or text such as "500ms", "1m" (0.5 and 60).
    jitter: False makes each delay equal to its bound (True).
    on: the exception, or a tuple of them, worth another attempt (`Exception`).
    give_up_on: the exception, or a tuple of them, that is not, although it is one of `on` (none).

    Raises ValueError for fewer than one attempt, and for bounds that are not durations or contradict each other.

    >>> Retry(attempts=3, base="1s", max="1m").is_retryable(ConnectionError())
    True
    >>> Retry(give_up_on=KeyError).is_retryable(KeyError("id"))
    False
    """

    attempts: int
    backoff: Backoff
    on: tuple[type[BaseException], ...]
    give_up_on: tuple[type[BaseException], ...]

    def __init__(
        self,
        attempts: int = 5,
        *,
        base: float | str = 0.5,
        max: float | str = 60.0,
        jitter: bool = True,
        on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        give_up_on: type[BaseException] | tuple[type[BaseException], ...] = (),
    ) -> None:
        if attempts < 1:
            raise ValueError(f"Retry(attempts={attempts}): at least 1, the first run counts")
        base_seconds, max_seconds = _in_seconds(base), _in_seconds(max)
        if base_seconds < 0 or max_seconds < base_seconds:
            raise ValueError(f"Retry(base={base!r}, max={max!r}): must be 0 <= base <= max, in seconds or as text")
        put = object.__setattr__
        put(self, "attempts", attempts)
        put(self, "backoff", Backoff(base_seconds, max_seconds, jitter))
        put(self, "on", on if isinstance(on, tuple) else (on,))
        put(self, "give_up_on", give_up_on if isinstance(give_up_on, tuple) else (give_up_on,))

    def is_retryable(self, error: BaseException) -> bool:
        """Whether an error is worth another attempt."""
        never = (ValidationError, UsageError, *self.give_up_on)
        on_groups = tuple(kind for kind in self.on if issubclass(kind, _ANY_GROUP))
        to_do = [error]
        while to_do:
            each = to_do.pop()
            if isinstance(each, never) or (isinstance(each, Reject) and each is not error):
                continue
            members = members_of(each)
            if isinstance(each, on_groups if members else self.on):
                return True
            to_do += members
        return False


@dataclass(frozen=True, slots=True, init=False)
class Dedup:
    """A stage handles one message with each value of `by`, and drops and counts the others.

    It drops them on arrival, atomically with whatever sends them, so that no two workers both run one. A value of None
    never counts as a duplicate. `dedup="url"` is short for `Dedup("url")`.

    by: the name of a field or property of the message, or a function of the message.
    scope: "run" forgets the values when the next run starts; "forever" keeps them until `flowq run --fresh` ("run").
    ttl: forget a value this long after its message arrived: seconds, or text such as "7d" (never).
    keep: which message of a value is handled: the "first", or the "last". A later one then replaces the first while
        that waits or is delayed; once a worker has the first, or has handled it, later ones are dropped ("first").
    exact: False remembers only 40 bits of each value, in about half the memory. A few values are then mistaken for
        others, and their messages dropped: half a message of a million, 45 of ten million (True).

    Raises ValueError for another scope or `keep`, for a `ttl` that is not a duration or below a millisecond, and for
    exact=False with keep="last".

    >>> Dedup("url", scope="forever", ttl="7d").ttl_seconds
    604800.0
    """

    by: str | Callable[[Any], str]
    scope: Literal["run", "forever"]
    ttl_seconds: float | None
    keep: Literal["first", "last"]
    exact: bool

    def __init__(
        self,
        by: str | Callable[[Any], str],
        *,
        scope: Literal["run", "forever"] = "run",
        ttl: float | str | None = None,
        keep: Literal["first", "last"] = "first",
        exact: bool = True,
    ) -> None:
        if scope not in ("run", "forever"):
            raise ValueError(f'Dedup(scope={scope!r}): must be "run" or "forever"')
        if keep not in ("first", "last"):
            raise ValueError(f'Dedup(keep={keep!r}): must be "first" or "last"')
        if keep == "last" and not exact:
            raise ValueError('Dedup(keep="last") needs exact=True: a message could replace one of another value')
        ttl_seconds = None if ttl is None else seconds(ttl)
        if ttl_seconds is not None and ttl_seconds < 0.001:
            raise ValueError(f"Dedup(ttl={ttl!r}): must be at least one millisecond")
        put = object.__setattr__
        put(self, "by", by)
        put(self, "scope", scope)
        put(self, "ttl_seconds", ttl_seconds)
        put(self, "keep", keep)
        put(self, "exact", exact)


HASH_BYTES, APPROXIMATE_HASH_BYTES = 10, 5


@dataclass(frozen=True, slots=True)
class DedupMemory:
    """How long a stage that deduplicates remembers a message: in milliseconds, or None for no expiry.

    `places`: all edges of a stage that handles the last message of a value; the first may be on any of them.
    `hash_bytes`: how many bytes of its hash identify a value; values that are stored already keep their number.
    """

    ttl_ms: int | None = None
    places: tuple[str, ...] = ()
    hash_bytes: int = HASH_BYTES

    def with_cells(self) -> DedupMemory:
        """The same for hashes that carry the cell of their message."""
        return replace(self, hash_bytes=self.hash_bytes + CELL_BYTES)


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """At most `n` messages start in each period `per`, for each value of `by`, across all workers.

    Messages above the rate are delayed and occupy no slot of the stage, so those of other values overtake them. The
    attribute `per` holds seconds.

    n: how many may start in each period; may be a fraction.
    per: the period: seconds, or text such as "1m" (1).
    by: the name of a field or property of the message, or a function of the message; None limits the whole stage.
    burst: how many may start at once after a pause (1).
    concurrency: how many messages of one value may run at once, across all workers (no limit). The slots of a dead
        worker are freed when its messages are reclaimed.
    adaptive: True slows a value down by the rule of Scrapy's AutoThrottle: the time between two starts moves towards
        the latency of the handler divided by `concurrency` (1 if not given), doubles with each failure, and stays
        between per / n and 60 s (False).
    keys: the rates of single values of `by`, each replacing `n`, `per`, `burst` and `concurrency` for that value. Such
        a rate has no `by` and no `keys`, and is adaptive if this one is.

    Raises ValueError for numbers out of range, and for a `per` that is not a duration; TypeError for `keys` that do not
    map text to rates.

    >>> Rate(20, by="host").interval_seconds, Rate(600, per="1m").interval_seconds
    (0.05, 0.1)
    >>> polite = Rate(20, by="host", keys={"slow.example": Rate(1), "fragile.example": Rate(2, concurrency=1)})
    >>> polite.of("slow.example").interval_seconds, polite.of("other.example").interval_seconds
    (1.0, 0.05)
    """

    n: float
    per: float
    by: str | Callable[[Any], str] | None
    burst: int
    concurrency: int | None
    adaptive: bool
    keys: Mapping[str, Rate] = field(hash=False)

    def __init__(
        self,
        n: float,
        *,
        per: float | str = 1.0,
        by: str | Callable[[Any], str] | None = None,
        burst: int = 1,
        concurrency: int | None = None,
        adaptive: bool = False,
        keys: Mapping[str, Rate] | None = None,
    ) -> None:
        per = _in_seconds(per)
        if n <= 0 or per <= 0 or burst < 1:
            raise ValueError(f"Rate({n}, per={per}, burst={burst}): n and per above 0, burst at least 1")
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"Rate(concurrency={concurrency}): at least 1")
        if keys and by is None:
            raise ValueError("Rate(keys=...) needs by=, whose values the keys are")
        for key, rate in (keys or {}).items():
            _check_own(key, rate)
        put = object.__setattr__
        put(self, "n", n)
        put(self, "per", per)
        put(self, "by", by)
        put(self, "burst", burst)
        put(self, "concurrency", concurrency)
        put(self, "adaptive", adaptive)
        put(self, "keys", dict(keys or {}))

    def of(self, key: str) -> Rate:
        """The rate for one value of `by`: its own, or this one."""
        return self.keys.get(key, self)

    @property
    def interval_seconds(self) -> float:
        """Seconds between two starts of one key at the full rate."""
        return self.per / self.n


def _in_seconds(duration: float | str) -> float:
    """Numbers stay as they are: each policy checks its own bounds."""
    return seconds(duration) if isinstance(duration, str) else duration


def _check_own(key: object, rate: object) -> None:
    """Raise unless an item of `keys` is text and a plain rate."""
    if not isinstance(key, str) or not isinstance(rate, Rate):
        raise TypeError(f"Rate(keys={{{key!r}: {rate!r}}}): must map text to Rate(...)")
    if rate.by is not None or rate.keys or rate.adaptive:
        raise ValueError(f"Rate(keys={{{key!r}: ...}}): the rate of a single value has no by, keys or adaptive")
