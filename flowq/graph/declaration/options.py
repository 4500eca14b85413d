"""The options of a stage: their types for type checkers, and their check at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from flowq.delivery.policy import AckMode, Dedup, Keep, Rate, Retry
from flowq.errors import Problems, did_you_mean
from flowq.graph.declaration.definition import Definition
from flowq.graph.declaration.option_values import count, duration, duration_above_zero, flag, size
from flowq.graph.kinds import Batch

_MAX_BYTES = 1_000_000
_COMPRESS_ABOVE = 2000
"""Bytes: compressing less than this saves hardly anything."""
MOST_KEPT = 100_000
"""The most messages that a stage with `keep="1h"` keeps, so that memory is bounded."""


class StageOptions(TypedDict, total=False):
    """The options of any stage, as the user writes them."""

    name: str
    concurrency: int
    retry: Retry
    rate: Rate
    timeout: float | str
    dedup: str | Callable[[Any], str] | Dedup
    ack: Literal["after", "first", "manual"]
    inline: bool
    process: bool
    max_bytes: int | str
    compress: bool | int
    claim_above: int | str
    maxsize: int
    maxsize_bytes: int | str
    bounded: bool
    keep: int | str


class BatchOptions(StageOptions, total=False):
    """The options of a stage, including those of batches."""

    batch: int
    batch_bytes: int | str
    linger: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Checked options, durations in seconds."""

    concurrency: int = 10
    retry: Retry = field(default_factory=Retry)
    rate: Rate | None = None
    timeout: float | None = None
    dedup: Dedup | None = None
    ack: AckMode = AckMode.AFTER
    batch: int | None = None
    batch_bytes: int | None = None
    linger: float = 0.2
    inline: bool = False
    process: bool = False
    max_bytes: int = _MAX_BYTES
    compress: int | None = None
    claim_above: int | None = None
    maxsize: int | None = None
    maxsize_bytes: int | None = None
    bounded: bool = False
    keep: Keep | None = None

    @property
    def batching(self) -> Batch | None:
        return Batch(self.batch, self.linger, self.batch_bytes) if self.batch else None


def checked_options(definition: Definition, problems: Problems) -> Options:
    """The options of a stage. Unusable ones are reported, and keep their defaults."""
    given = {name: value for name, value in definition.options.items() if name != "name" and value is not None}
    usable: dict[str, Any] = {}
    for name, value in given.items():
        if name not in READERS or not definition.accepts_messages:
            _unknown(definition, name, problems)
            continue
        try:
            usable[name] = READERS[name](value)
        except (TypeError, ValueError) as error:
            text = f"{definition.name}: {name}={value!r} cannot be used"
            problems.add("FQ106", text, definition.place, hint=str(error))
    _check_combinations(definition, given, problems)
    return Options(**usable)


def _unknown(definition: Definition, name: str, problems: Problems) -> None:
    options = list(READERS) if definition.accepts_messages else ["name"]
    hint = did_you_mean(name, options, f"options: {', '.join(options)}")
    problems.add("FQ106", f'{definition.name} has no option "{name}"', definition.place, hint=hint)


_CLASHES: tuple[tuple[Callable[[Mapping[str, Any]], bool], str, str], ...] = (
    (
        lambda o: bool(o.get("inline") and o.get("process")),
        "inline=True and process=True exclude each other",
        "keep inline for fast functions, process for heavy ones",
    ),
    (
        lambda o: "linger" in o and "batch" not in o,
        "linger has no effect without batch",
        "add batch=..., or leave linger out",
    ),
    (
        lambda o: "batch_bytes" in o and "batch" not in o,
        "batch_bytes has no effect without batch",
        "add batch=..., or leave batch_bytes out",
    ),
    (
        lambda o: o.get("ack") == "first" and "retry" in o,
        'ack="first" never retries, so retry has no effect',
        'use ack="after", or leave retry out',
    ),
    (
        lambda o: "claim_above" in o and _bytes(o["claim_above"]) >= _bytes(o.get("max_bytes", _MAX_BYTES)),
        "claim_above has no effect: max_bytes is not above it",
        "raise max_bytes to the largest message that this stage may get, or leave claim_above out",
    ),
)


def _check_combinations(definition: Definition, given: Mapping[str, Any], problems: Problems) -> None:
    for clash, text, hint in _CLASHES:
        if clash(given):
            problems.add("FQ106", f"{definition.name}: {text}", definition.place, hint=hint)


def _bytes(value: Any) -> int:
    """A size in bytes; 0 for an invalid one, which is reported elsewhere."""
    try:
        return size(value)
    except (TypeError, ValueError):
        return 0


def _compression(value: Any) -> int | None:
    if isinstance(value, bool):
        return _COMPRESS_ABOVE if value else None
    return count(value)


def _dedup(value: Any) -> Dedup:
    by: Any = value.by if isinstance(value, Dedup) else value
    if not callable(by) and not (isinstance(by, str) and by):
        raise TypeError("must be the name of a field, or a function of the message")
    return value if isinstance(value, Dedup) else Dedup(value)


def _ack(value: Any) -> AckMode:
    if value not in tuple(AckMode):
        raise ValueError('must be "after", "first" or "manual"')
    return AckMode(value)


def _keep(value: Any) -> Keep:
    if isinstance(value, str):
        return Keep(MOST_KEPT, round(duration_above_zero(value) * 1000))
    return Keep(count(value))


def _of(wanted: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, wanted):
            raise TypeError(f"must be a {wanted.__name__}(...)")
        return value

    return check


READERS: Mapping[str, Callable[[Any], Any]] = {
    "concurrency": count,
    "retry": _of(Retry),
    "rate": _of(Rate),
    "timeout": duration_above_zero,
    "dedup": _dedup,
    "ack": _ack,
    "batch": count,
    "batch_bytes": size,
    "linger": duration,
    "inline": flag,
    "process": flag,
    "max_bytes": size,
    "compress": _compression,
    "claim_above": size,
    "maxsize": count,
    "maxsize_bytes": size,
    "bounded": flag,
    "keep": _keep,
}
