"""`--log-level`: of everything, or of single loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.errors import UsageError, did_you_mean

LEVELS = ("debug", "info", "warning", "error", "critical")


def levels_of(values: Sequence[str] | None) -> Mapping[str, str]:
    """The level of each logger, as `logging` spells it; "" is the root, above all others. Raises UsageError.

    >>> levels_of(["info,httpx=debug", "flowq=error"])
    {'': 'INFO', 'httpx': 'DEBUG', 'flowq': 'ERROR'}
    """
    levels: dict[str, str] = {}
    for item in (part.strip() for value in values or () for part in value.split(",")):
        before, equals, after = item.partition("=")
        logger, level = (before.strip(), after.strip()) if equals else ("", item)
        if level.lower() not in LEVELS:
            hint = did_you_mean(level.lower(), LEVELS, f"one of {', '.join(LEVELS)}")
            raise UsageError(f'--log-level {item}: there is no level "{level}"', hint=hint)
        if equals and not logger:
            raise UsageError(f"--log-level {item} names no logger", hint="--log-level info,httpx=debug")
        levels[logger] = level.upper()
    return levels
