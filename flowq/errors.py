"""Every exception flowq raises or understands: one root, a code, and a remedy in each text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flowq.durations import seconds


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's code something is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a pipeline: what is wrong, where, and what to do about it.

    `code` is stable ("FQ103"), `details` are shown indented below the first line, `hint` is the remedy.
    A problem of severity "warning" does not stop a pipeline from being built.
    """

    code: str
    text: str
    place: Place | None = None
    details: tuple[str, ...] = ()
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        head = f"{self.severity}[{self.code}]: {self.text}"
        lines = [f"{head}    {self.place}" if self.place else head]
        lines += [f"  {line}" for line in self.details]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, similarity: float = 0.6) -> str:
    """The hint for an unknown name: the closest known one of at least that similarity (0 to 1), else `otherwise`.

    >>> did_you_mean("fecth", ["fetch", "parse"]), did_you_mean("x", ["fetch"], "its stages: fetch")
    ('did you mean "fetch"?', 'its stages: fetch')
    """
    from difflib import get_close_matches  # only where something is wrong

    near = get_close_matches(name, list(known), 1, similarity)
    return f'did you mean "{near[0]}"?' if near else otherwise


class FlowqError(Exception):
    """The root of all errors of flowq.

    `hint` says what to do next, `detail` carries what the layer below said. `exit_code` is what the command line
    exits with when the error reaches it. `stored` and `duplicates` are set when a bulk push ended early: that number of
    its messages, counted from the first, are already stored or were duplicates, and must not be pushed again.
    """

    code = "FQ900"
    exit_code = 1
    stored = 0
    duplicates = 0

    def __init__(self, message: str, *, hint: str = "", detail: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail
        self.place = place

    def problem(self) -> Problem:
        """This error as a finding that can be printed like any other."""
        return Problem(self.code, self.message, self.place, (self.detail,) if self.detail else (), self.hint)

    def __str__(self) -> str:
        return str(self.problem())


class PipelineError(FlowqError):
    """A pipeline is wired incorrectly. Carries every problem found, not only the first."""

    code = "FQ100"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the pipeline")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class UsageError(FlowqError):
    """A name, flag, setting or argument that cannot be used as written."""

    code = "FQ200"
    exit_code = 2


class SettingsError(UsageError):
    """A setting that does not exist, or a value that cannot be used."""

    code = "FQ202"


class NotFound(UsageError):
    """A pipeline, stage or dead letter that does not exist."""

    code = "FQ201"


class NotConfigured(UsageError):
    """Neither the program nor a setting names a Redis. Only commands start a server without being asked to."""

    code = "FQ214"


class NoClaimStore(UsageError):
    """A stage has claim_above=, but no store for large bodies is configured, or obstore is not installed."""

    code = "FQ210"


class WrongClaimStore(UsageError):
    """The configured store for large bodies is not the one that the other workers use."""

    code = "FQ211"


class UnsupportedPlatform(UsageError):
    """An operating system that lacks what flowq relies on."""

    code = "FQ221"


class CodecError(FlowqError):
    """A value cannot be encoded, or bytes cannot be decoded."""

    code = "FQ500"
    exit_code = 2


class DecodeError(CodecError):
    """Bytes that are not a valid message of the type that a stage accepts."""

    code = "FQ501"


class UnknownType(DecodeError):
    """A message of a type that this version of the pipeline does not have."""

    code = "FQ504"


class BodyElsewhere(UnknownType):
    """A body in the claim store, which cannot be read here or has not been read yet."""

    code = "FQ505"


class BodyLost(DecodeError):
    """A body that is missing from the claim store, or incomplete."""

    code = "FQ506"


class NotAMessage(DecodeError):
    """An entry whose header looks like flowq's, but was not written by any version of flowq."""

    code = "FQ507"


class EncodeError(CodecError):
    """A value that does not match the declared output types, or cannot be written as JSON."""

    code = "FQ502"


class PayloadTooLarge(EncodeError):
    """A message above the size limit. Store the body elsewhere and send a reference to it."""

    code = "FQ503"


class BrokerError(FlowqError):
    """Redis could not carry out a request."""

    code = "FQ400"
    exit_code = 4


class BrokerUnavailable(BrokerError):
    """Redis cannot be reached, or does not answer. `server` is its address, where that is known."""

    code = "FQ401"
    subject = "Redis"
    server = ""


class ClaimStoreUnavailable(BrokerUnavailable):
    """The store of large bodies cannot be reached, read or written."""

    code = "FQ405"
    subject = "the claim store"


class BrokerLoading(BrokerUnavailable):
    """Redis is still loading its data from disk."""


class BrokerRefused(BrokerError):
    """Redis refused a request: no permission, a wrong key type, or a version that is too old."""

    code = "FQ402"


class QueueFull(BrokerError):
    """An edge holds `maxsize` messages; publishing to it was refused.

    A refused `push` stored nothing; a refused `push_many` stored its first `stored` messages.
    """

    code = "FQ404"
    exit_code = 1


class ReplyCutOff(BrokerUnavailable):
    """The connection to Redis was closed before the whole reply had arrived: it may be larger than Redis sends."""


class RequestCutOff(BrokerUnavailable):
    """Redis closed the connection during a large request, which may be larger than Redis accepts."""


class RequestRefused(BrokerRefused):
    """Redis closed the connection every time a request was sent: it is larger than Redis accepts."""

    code = "FQ407"


class RunLost(BrokerError):
    """Redis no longer knows the run: it has lost its data, including all messages in flight."""

    code = "FQ406"


class WorkerFailed(FlowqError):
    """Worker processes keep dying, before they start to work or in the same source."""

    code = "FQ303"


class Reject(Exception):
    """Raise in a handler to send its message to the dead letters at once, without retries.

    `reason` is kept with the dead letter and shown.

    >>> raise Reject("HTTP 404")
    Traceback (most recent call last):
    flowq.errors.Reject: HTTP 404
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(Exception):
    """Raise in a handler to retry its message after a delay that the handler chooses.

    `reason` is kept with the message and shown. `after` is how long to wait: seconds, or text such as "30s" or "5m";
    a negative number means at once. With `hold="host"`, every message of the stage with the same `host` waits as well,
    and the retry does not count as an attempt: the fault is with the host, not with the message. Without `hold` the
    retry counts as an attempt, so a message that keeps asking for one becomes a dead letter.

    The attribute `after` holds seconds. Raises ValueError for anything but a duration, and for an infinite number.

    >>> raise RetryLater("throttled", after="30s", hold="host")
    Traceback (most recent call last):
    flowq.errors.RetryLater: throttled
    """

    def __init__(self, reason: str = "retry later", *, after: float | str, hold: str | None = None) -> None:
        if not isinstance(after, int | float):
            after = seconds(after)
        if after == math.inf:
            raise ValueError("RetryLater(after=inf) means never; raise Reject for a message that must not run again")
        super().__init__(reason)
        self.reason = reason
        self.after = max(0.0, after)
        self.hold = hold

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied by calling its class with its `args`, and `after` is not one of them.
        return partial(RetryLater, self.reason, after=self.after, hold=self.hold), ()


class BatchFailed(Exception):
    """Raise in a batch handler when only some of its messages have failed.

    `errors` maps the index of each failed message to its error, which counts as if the handler had raised it for that
    message alone: it is retried or becomes a dead letter, and Reject and RetryLater work as usual. All other messages
    are settled with `outputs`. After any other exception flowq cannot tell which messages failed, and calls the
    handler again with each half of the batch.

    >>> raise BatchFailed({2: ValueError("no price"), 7: Reject("HTTP 410")})
    Traceback (most recent call last):
    flowq.errors.BatchFailed: 2 messages of the batch failed, the first: ValueError('no price')
    """

    def __init__(self, errors: Mapping[int, BaseException], *, outputs: Sequence[Any] = ()) -> None:
        if not errors:
            raise ValueError("BatchFailed({}) names no failed message; return normally instead")
        for index, error in errors.items():
            if not isinstance(index, int) or not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"BatchFailed({{{index!r}: {error!r}}}): a message index and an exception are needed")
        n = len(errors)
        super().__init__(f"{n} message{'s' * (n > 1)} of the batch failed, the first: {next(iter(errors.values()))!r}")
        self.errors = dict(errors)
        self.outputs = tuple(outputs)


@dataclass(slots=True)
class Problems:
    """Collects findings while a pipeline is examined."""

    found: list[Problem] = field(default_factory=list[Problem])

    def add(self, code: str, text: str, place: Place | None = None, *details: str, hint: str = "") -> None:
        """Note an error."""
        self.found.append(Problem(code, text, place, details, hint))

    def warn(self, code: str, text: str, place: Place | None = None, *details: str, hint: str = "") -> None:
        """Note a warning."""
        self.found.append(Problem(code, text, place, details, hint, "warning"))

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.found if problem.severity == "error"]
