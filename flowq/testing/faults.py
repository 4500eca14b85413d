"""Faults as data: what goes wrong, at which named point, and at which occurrence of it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

from flowq.errors import UsageError, did_you_mean

Point = Literal["read", "handler", "settle"]
RefusedWith = Literal["OOM", "READONLY", "LOADING", "BUSY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN"]
_BETWEEN_SHARDS = ("settle_out", "publish_out", "apply", "wave", "bridge")
_REPEATABLE = ("settle", "publish", "promote", "reclaim", "renew", "reserve", *_BETWEEN_SHARDS)
_LOSABLE = (*_REPEATABLE, "read")
_ERRORS = get_args(RefusedWith)


class _Printed:
    """Prints as the code that makes it, without what is left at its default."""

    def __str__(self) -> str:
        shown: list[str] = []
        for field in fields(self):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.default is MISSING:
                shown.append(repr(value))
            elif value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class _AtStage(_Printed):
    """Concerns one stage, given by itself or by its name."""

    stage: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", getattr(self.stage, "name", self.stage))
        _check_nth(self)


class _Counted(_Printed):
    def __post_init__(self) -> None:
        _check_nth(self)


@dataclass(frozen=True, slots=True)
class Crash(_AtStage):
    """A worker dies, at once and without a word, as by `kill -9`. Another one takes its place soon.

    Nothing of it reaches Redis any more. Its handlers are cancelled: unlike in a process that is killed, what they
    do in `finally` and `except CancelledError` happens, and so does what a handler on a thread has begun.

    stage: the stage, or its name.
    before, after: one of the two names the point: "read" (the worker takes messages), "handler" (the function of the
        stage is called) or "settle" (what happened to messages is written to Redis). After "read", the worker holds
        messages that it has not begun; after "settle", Redis has everything, and the worker has not heard of it.
    nth: at the n-th time that any worker reaches the point, counted from 1.

    Raises UsageError for another point, or for both or none of `before` and `after`.

    >>> print(Crash("parse", before="settle", nth=3))
    Crash('parse', before='settle', nth=3)
    """

    stage: Any
    before: Point | None = None
    after: Point | None = None
    nth: int = 1

    def __post_init__(self) -> None:
        _AtStage.__post_init__(self)
        points = get_args(Point)
        given = [point for point in (self.before, self.after) if point is not None]
        if len(given) != 1:
            raise UsageError("a Crash needs one point", hint=f"before= or after=, one of: {', '.join(points)}")
        _check_known("point", given[0], points)

    @property
    def point(self) -> Point:
        return self.before or self.after or "handler"


@dataclass(frozen=True, slots=True)
class LostReply(_Counted):
    """Redis does what a call asks, and the connection breaks before its reply arrives.

    call: "settle", "publish", "read", "promote", "reclaim", "renew" or "reserve"; in a pipeline with several shards
        also "settle_out" and "publish_out" (those with messages for another shard), "apply" (what arrives there),
        "wave" and "bridge". A read counts if its reply has messages.
    nth: the n-th of these calls, counted from 1.

    >>> print(LostReply("publish"))
    LostReply(call='publish')
    """

    call: str = "settle"
    nth: int = 1

    def __post_init__(self) -> None:
        _Counted.__post_init__(self)
        _check_known("call", self.call, _LOSABLE)


@dataclass(frozen=True, slots=True)
class Duplicate(_Counted):
    """A call arrives twice: once as usual, and again a little later, when its reply is not awaited any more.

    call: as for `LostReply`, without "read".
    nth: the n-th of these calls, counted from 1.

    >>> print(Duplicate(nth=2))
    Duplicate(nth=2)
    """

    call: str = "settle"
    nth: int = 1

    def __post_init__(self) -> None:
        _Counted.__post_init__(self)
        _check_known("call", self.call, _REPEATABLE)


@dataclass(frozen=True, slots=True)
class Reorder(_Counted):
    """A call that moves messages is late: calls that other connections make after it arrive before it.

    nth: at the n-th settle, publish or apply of all workers, counted from 1.

    >>> print(Reorder())
    Reorder()
    """

    nth: int = 1


@dataclass(frozen=True, slots=True)
class Disconnect(_Counted):
    """All connections of a worker to a server break. The call at which it happens has not reached Redis.

    nth: at the n-th settle, publish or apply of all workers, counted from 1.

    >>> print(Disconnect(nth=3))
    Disconnect(nth=3)
    """

    nth: int = 1


@dataclass(frozen=True, slots=True)
class Stall(_Counted):
    """A server does not answer for a while, and then runs everything that has arrived meanwhile.

    seconds: for how long.
    nth: it begins with the n-th settle, publish or apply of all workers, counted from 1.

    >>> print(Stall(20))
    Stall(20)
    """

    seconds: float
    nth: int = 1

    def __post_init__(self) -> None:
        _Counted.__post_init__(self)
        _check_seconds(self, self.seconds)


@dataclass(frozen=True, slots=True)
class Refuse(_Counted):
    """A server refuses for a while: "OOM" refuses to store new messages, every other error refuses all calls.

    error: "OOM" (its memory is full), "READONLY" (it was demoted), "LOADING", "BUSY", "MISCONF" (it cannot write to its
        disk), "NOREPLICAS" or "CLUSTERDOWN".
    seconds: for how long.
    nth: it begins with the n-th settle, publish or apply of all workers, counted from 1; for "OOM", with the
        n-th publish or apply.

    >>> print(Refuse("LOADING", seconds=3))
    Refuse(error='LOADING', seconds=3)
    """

    error: RefusedWith = "OOM"
    seconds: float = 5.0
    nth: int = 1

    def __post_init__(self) -> None:
        _Counted.__post_init__(self)
        _check_seconds(self, self.seconds)
        _check_known("error", self.error, _ERRORS)


@dataclass(frozen=True, slots=True)
class Failover(_Counted):
    """A replica that lagged becomes the primary: Redis forgets its last writes, and all connections break.

    flowq promises each message once only of what Redis keeps: messages whose publish was forgotten are lost, and those
    whose settlement was forgotten are delivered again. A test with this fault has to expect both.

    Of a pipeline with several shards, it strikes the server of one of them. Nothing is forgotten there that the replica
    has confirmed, or that the test has fed. So each message that is fed counts once, as after any other fault: outputs
    and balances are what the servers remember.

    forget: how many of the last calls that moved messages (reads, settles, publishes, applies), with everything since.
    nth: just before the n-th settle, publish or apply of all workers, counted from 1.

    >>> print(Failover(forget=2))
    Failover(forget=2)
    """

    forget: int = 5
    nth: int = 1

    def __post_init__(self) -> None:
        _Counted.__post_init__(self)
        if self.forget < 0:
            raise UsageError("a Failover cannot forget less than nothing", hint="forget=5")


@dataclass(frozen=True, slots=True)
class PoisonBody(_AtStage):
    """A message arrives with a body that cannot be decoded.

    stage: the stage that reads it, or its name.
    nth: the n-th message that the stage reads, counted from 1.

    >>> print(PoisonBody("parse"))
    PoisonBody('parse')
    """

    stage: Any
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Slow(_AtStage):
    """The function of a stage takes longer, by the virtual clock, before it begins.

    stage: the stage, or its name.
    seconds: for how long.
    nth: at the n-th call of the function, counted from 1.

    >>> print(Slow("fetch", 90))
    Slow('fetch', 90)
    """

    stage: Any
    seconds: float
    nth: int = 1

    def __post_init__(self) -> None:
        _AtStage.__post_init__(self)
        _check_seconds(self, self.seconds)


@dataclass(frozen=True, slots=True)
class Restart(_Counted):
    """A worker stops as it does on SIGTERM, and starts again under another name.

    nth: the worker that makes the n-th settle, publish or apply of all workers, counted from 1.

    >>> print(Restart())
    Restart()
    """

    nth: int = 1


Fault = (
    Crash | LostReply | Duplicate | Reorder | Disconnect | Stall | Refuse | Failover | PoisonBody | Slow | Restart
)  # fmt: skip


def _check_nth(fault: Any) -> None:
    if not isinstance(fault.nth, int) or fault.nth < 1:
        raise UsageError(f"{type(fault).__name__} cannot happen at time {fault.nth}", hint="nth=1 is the first time")


def _check_seconds(fault: Any, seconds: float) -> None:
    # Types of a test are rarely checked, and other durations may be text such as "5s".
    if not isinstance(seconds, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"{type(fault).__name__} lasts a number of seconds, not {seconds!r}", hint="seconds=5")
    if not seconds > 0:
        raise UsageError(f"{type(fault).__name__} must last longer than {seconds} s", hint="seconds=5")


def _check_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f'no {what} is called "{name}"', hint=did_you_mean(name, known, f"one of: {', '.join(known)}"))
