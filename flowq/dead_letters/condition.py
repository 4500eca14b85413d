"""Conditions on messages as people write them, such as dest=SJU. They only compare, and run no code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import orjson

from flowq.errors import UsageError

_WRITTEN = re.compile(r"\s*([\w.-]+)\s*(!=|<=|>=|=|~|<|>)(.*)", re.DOTALL)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NOTHING = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a field of a JSON message with a text.

    `path` leads to the field, with dots into objects and lists. Numbers compare as numbers where both sides are;
    `~` is a glob. A message without the field meets only `!=`.

    >>> Condition.parse("flight.delay>=60").holds({"flight": {"delay": 75}})
    True
    >>> Condition.parse("dest~S*").holds({"dest": "BQN"})
    False
    """

    path: str
    operator: str
    text: str

    @classmethod
    def parse(cls, written: str) -> Condition:
        """Raises UsageError for anything that is not a comparison."""
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise UsageError(
                f'--where "{written}" is not a condition',
                hint="field=value, field!=value, field~glob, or <, <=, >, >= for numbers",
            )
        return cls(found[1], found[2], found[3].strip())

    def holds(self, message: Any) -> bool:
        value = value_at(message, self.path)
        if value is NOTHING:
            return self.operator == "!="
        match self.operator:
            case "=":
                return _equal(value, self.text)
            case "!=":
                return not _equal(value, self.text)
            case "~":
                return fnmatchcase(_text(value), self.text)
            case order:
                numbers = _number(value), _number(self.text)
                sides = (_text(value), self.text) if None in numbers else numbers
                return _ORDERS[order](*sides)


def value_at(message: Any, path: str) -> Any:
    """The value at a path of names and positions in a JSON value; NOTHING if there is none."""
    for name in path.split("."):
        if isinstance(message, dict):
            message = cast("dict[str, Any]", message).get(name, NOTHING)
        elif isinstance(message, list) and name.isdecimal():
            items = cast("Sequence[Any]", message)
            message = items[int(name)] if int(name) < len(items) else NOTHING
        else:
            return NOTHING
    return message


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    number = _number(value)
    return _text(value) == text or (number is not None and number == _number(text))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
