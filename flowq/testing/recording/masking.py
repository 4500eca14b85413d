"""Masks fields of messages by their names, before they reach a file."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

_MASKS: dict[type[Any], Any] = {str: "***", bool: False, int: 0, float: 0.0, list: [], dict: {}}

Path = tuple[str, ...]


class Masking:
    """Replaces the values of some fields by others of the same JSON type, so that messages can still be read.

    Each pattern is the name of a field at any depth, such as `password` or `*_token`, or the dotted path of one, from
    the message down, such as `user.email` or `headers.*`. `**` in a path stands for any number of names. The elements
    of lists have no names: `lines.price` is the price of every line. Text becomes "***", a number 0, and so on.

    >>> masking = Masking(["*token", "user.name"])
    >>> masking.masked({"token": "s3cret", "user": {"name": "Ada", "id": 7}, "calls": [{"api_token": 1}]})
    {'token': '***', 'user': {'name': '***', 'id': 7}, 'calls': [{'api_token': 0}]}
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._paths = [tuple(pattern.split(".")) for pattern in patterns]

    def masked(self, value: Any) -> Any:
        """A JSON value with its secrets masked. The given one is left alone."""
        return self._masked(value, ())

    def _masked(self, value: Any, path: Path) -> Any:
        if path and any(_matches(pattern, path) for pattern in self._paths):
            return _MASKS.get(value.__class__)
        if isinstance(value, dict):
            fields: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
            return {name: self._masked(field, (*path, name)) for name, field in fields.items()}
        if isinstance(value, list):
            elements: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
            return [self._masked(element, path) for element in elements]
        return value


def _matches(pattern: Path, path: Path) -> bool:
    if len(pattern) == 1 and pattern != ("**",):
        return fnmatchcase(path[-1], pattern[0])
    return _leads_to(pattern, path)


def _leads_to(pattern: Path, path: Path) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_leads_to(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _leads_to(pattern[1:], path[1:])
