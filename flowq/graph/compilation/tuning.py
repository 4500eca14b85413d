"""Options set outside the code: which ones exist, their values, and how they override those of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, cast

from flowq.delivery.policy import Rate, Retry
from flowq.errors import Problems, did_you_mean
from flowq.graph.declaration.definition import Definition
from flowq.graph.declaration.option_values import count, duration, duration_above_zero, flag, number_above_zero
from flowq.graph.declaration.options import READERS

Tuning = Mapping[str, Mapping[str, Any]]
"""Stage -> option -> value as plain data. Options are named as in `@stage`, or "retry.attempts" for a part."""

_PACE: Mapping[str, Callable[[Any], Any]] = {
    "n": number_above_zero,
    "per": duration_above_zero,
    "burst": count,
    "concurrency": count,
}


def _own_paces(value: Any) -> Mapping[str, Rate]:
    """The rates of single keys."""
    if not isinstance(value, Mapping) or not all(isinstance(own, Mapping) for own in value.values()):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        raise TypeError('must be a table for each key: { "slow.example" = { n = 1 } }')
    own_paces = cast("Mapping[str, Mapping[str, Any]]", value)
    for key, own in own_paces.items():
        if "n" not in own or not own.keys() <= _PACE.keys():
            raise ValueError(f'"{key}" needs n, and may have {", ".join(list(_PACE)[1:])}')
    return {key: Rate(**{part: _PACE[part](given) for part, given in own.items()}) for key, own in own_paces.items()}


_PARTS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "retry": {"attempts": count, "base": duration, "max": duration, "jitter": flag},
    "rate": {**_PACE, "adaptive": flag, "keys": _own_paces},
}
_ONLY_IN_CODE = ("dedup", "place", "ack", "inline", "process", "bounded", "rate.by", "retry.on", "retry.give_up_on")
TUNABLE: Mapping[str, Callable[[Any], Any]] = {
    **{name: read for name, read in READERS.items() if name not in (*_PARTS, *_ONLY_IN_CODE)},
    **{f"{name}.{part}": read for name, parts in _PARTS.items() for part, read in parts.items()},
}
"""The options that can be set, and how each is read: plain data that does not change what the code means."""


class UnknownOption(LookupError):
    """An option that cannot be set from outside; its text is the remedy."""


def tunable(option: str, value: Any) -> Any:
    """The value of an option as plain data. Text such as "8" or "true", from a variable, becomes a number or a boolean.

    Raises UnknownOption, and TypeError or ValueError for a value that cannot be used.

    >>> tunable("retry.attempts", "8"), tunable("timeout", "5m"), tunable("compress", "true")
    (8, '5m', True)
    """
    if option not in TUNABLE:
        raise UnknownOption(_remedy(option))
    said = _said(value)
    TUNABLE[option](said)
    return said


def flattened(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """
    >>> dict(flattened({"timeout": 5, "retry": {"attempts": 8}}))
    {'timeout': 5, 'retry.attempts': 8}
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{part}", given) for part, given in cast("Mapping[str, Any]", value).items())
        else:
            yield name, value


def laid_over(first: Tuning, then: Mapping[str, Mapping[str, Any]]) -> Tuning:
    """Both merged, the later one overriding option by option. In `then`, retry and rate may be nested mappings."""
    return {stage: {**first.get(stage, {}), **dict(flattened(then.get(stage, {})))} for stage in {**first, **then}}


def tuned(definition: Definition, tuning: Mapping[str, Any], problems: Problems) -> Definition:
    """A stage as if the options set for it were in its code. Unusable ones are reported and left out."""
    options = dict(definition.options)
    parts: dict[str, dict[str, Any]] = {}
    for option, value in tuning.items():
        try:
            plain = tunable(option, value)
        except UnknownOption as error:
            problems.add("FQ106", f'{definition.name} has no option "{option}"', definition.place, hint=str(error))
        except (TypeError, ValueError) as error:
            text = f"{definition.name}: {option}={value!r} cannot be used"
            problems.add("FQ106", text, definition.place, hint=str(error))
        else:
            name, is_part, part = option.partition(".")
            if is_part:
                parts.setdefault(name, {})[part] = TUNABLE[option](plain)
            else:
                options[name] = plain
    for name, changes in parts.items():
        try:
            options[name] = _WITH_CHANGES[name](options.get(name), changes)
        except ValueError as error:
            problems.add("FQ106", f"{definition.name}: {error}", definition.place)
    return replace(definition, options=options)


def _with_retry(own: Retry | None, changes: Mapping[str, Any]) -> Retry:
    own = own or Retry()
    backoff = own.backoff
    said: dict[str, Any] = {
        "attempts": own.attempts,
        "base": backoff.base_seconds,
        "max": backoff.max_seconds,
        "jitter": backoff.full_jitter,
    }
    return Retry(**{**said, **changes}, on=own.on, give_up_on=own.give_up_on)


def _with_rate(own: Rate | None, changes: Mapping[str, Any]) -> Rate:
    said = {each.name: getattr(own, each.name) for each in fields(Rate)} if own else {}
    if "n" not in {**said, **changes}:
        raise ValueError("its code has no rate, so rate.n must be set")
    return Rate(**{**said, **changes})


_WITH_CHANGES: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {"retry": _with_retry, "rate": _with_rate}


def _said(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _remedy(option: str) -> str:
    if option in _ONLY_IN_CODE:
        return f"{option} can only be set in the code"
    if option in _PARTS:
        return f"set {', '.join(f'{option}.{part}' for part in _PARTS[option])}"
    return did_you_mean(option, TUNABLE, f"one of {', '.join(TUNABLE)}")
