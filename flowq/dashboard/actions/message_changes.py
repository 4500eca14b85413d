"""What is different in an edited message, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from flowq.printable import json_text

_MOST_CHANGES, _LONGEST_VALUE, _DEEPEST = 50, 300, 50
_MISSING = object()


def changes(before: Any, after: Any) -> list[dict[str, str | None]]:
    """The parts that differ: the path of each, and its JSON before and after, None where there was or is none.

    >>> changes({"url": "/a", "depth": 2}, {"url": "/b", "depth": 2, "tag": None})
    [{'path': 'url', 'before': '"/a"', 'after': '"/b"'}, {'path': 'tag', 'before': None, 'after': 'null'}]
    """
    found = islice(_differences(before, after, ()), _MOST_CHANGES)
    return [
        {"path": ".".join(path) or "message", "before": _shown(before), "after": _shown(after)}
        for path, before, after in found
    ]


def assignments(before: Any, after: Any) -> list[str] | None:
    """The same as values of `flowq dlq retry --set`; None where these cannot say it.

    >>> assignments({"url": "/a", "n": {"x": 1}}, {"url": "7", "n": {"x": 2}})
    ['url="7"', 'n.x=2']
    >>> assignments({"url": "/a"}, {})
    """
    found: list[str] = []
    for path, _, value in islice(_differences(before, after, ()), _MOST_CHANGES):
        is_within_list = any(isinstance(_at(after, path[:i]), list) for i in range(len(path)))
        if value is _MISSING or not path or is_within_list or any(not part or set(part) & {".", "="} for part in path):
            return None
        found.append(f"{'.'.join(path)}={json_text(value)}")
    return found


def _differences(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    old, new = _parts(before), _parts(after)
    if type(before) is not type(after) or old is None or new is None or len(path) == _DEEPEST:
        if before != after or type(before) is not type(after):
            yield path, before, after
    elif isinstance(before, list) and len(old) != len(new):
        yield path, before, after
    else:
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name, _MISSING), new.get(name, _MISSING), (*path, name))


def _parts(value: Any) -> Mapping[str, Any] | None:
    """What is in an object or a list, by name or position; None for anything else."""
    if isinstance(value, dict):
        return cast("Mapping[str, Any]", value)
    if isinstance(value, list):
        return {str(i): item for i, item in enumerate(cast("Sequence[Any]", value))}
    return None


def _shown(value: Any) -> str | None:
    if value is _MISSING:
        return None
    text = json_text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value
