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
    place: str | Callable[[Any], Any]


class BatchOptions(StageOptions, total=False):
    """The options of a stage, including those of batches."""

    batch: int
    batch_bytes: int | str
    linger: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How the messages of a stage run: the options that its plan keeps."""

    concurrency: int = 10
    retry: Retry = field(default_factory=Retry)
    rate: Rate | None = None
    timeout_seconds: float | None = None
    dedup: Dedup | None = None
    ack: AckMode = AckMode.AFTER
    batch: Batch | None = None
    max_bytes: int = 1_000_000  # of one message to the stage
    compress_above: int | None = None  # bytes; None: never
    claim_above: int | None = None  # bytes as stored, above which a body is kept in the claim store; None: never
    keep: Keep | None = None  # of settled messages
    place_by: str | Callable[[Any], Any] | None = None  # the shard of a message, if no other key decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Running):
    """Checked options."""

    inline: bool = False
    process: bool = False
    maxsize: int | None = None
    maxsize_bytes: int | None = None
    bounded: bool = False


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
    for name, field_name in (("timeout", "timeout_seconds"), ("compress", "compress_above"), ("place", "place_by")):
        if name in usable:
            usable[field_name] = usable.pop(name)
    n, linger, n_bytes = usable.pop("batch", None), usable.pop("linger", 0.2), usable.pop("batch_bytes", None)
    return Options(**usable, batch=Batch(n, linger, n_bytes) if n else None)


def _unknown(definition: Definition, name: str, problems: Problems) -> None:
    options = list(READERS) if definition.accepts_messages else ["name"]
    hint = did_you_mean(name, options, f"options: {', '.join(options)}")
    problems.add("FQ106", f'{definition.name} has no option "{name}"', definition.place, hint=hint)


def _compression(value: Any) -> int | None:
    if isinstance(value, bool):
        return _COMPRESS_ABOVE if value else None
    return count(value)


def _dedup(value: Any) -> Dedup:
    by: Any = value.by if isinstance(value, Dedup) else value
    if not callable(by) and not (isinstance(by, str) and by):
        raise TypeError("must be the name of a field, or a function of the message")
    return value if isinstance(value, Dedup) else Dedup(value)


def _place(value: Any) -> Any:
    if not callable(value) and not (isinstance(value, str) and value):
        raise TypeError('must be the name of a field, a function of the message, "spread" or "here"')
    return value


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
    "place": _place,
}
