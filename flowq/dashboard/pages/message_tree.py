"""A message as a tree that folds without a script: bounded, however large or deep the message is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from flowq.dashboard.access.shown_fields import MASK, TOO_DEEP
from flowq.printable import json_text, printable
from flowq.wording.quantities import counted

_MOST_CHARACTERS, _MOST_NODES, _LONGEST_VALUE, _LONGEST_NAME, _DEEPEST = 64_000, 2000, 4000, 200, 24
_OPEN_UP_TO = 40  # members of an object that is inside another


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `name` is that of its field, `kind` "str", "lit" or "hidden", and "parts" for what folds.

    `text` is the value, or for what folds a summary. `more` says what was left out of `parts`.
    """

    name: str
    text: str
    kind: str
    parts: tuple[Node, ...] = ()
    more: str = ""
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class MessageTree:
    """The tree of a message; `is_cut` if not all of it is in there."""

    root: Node
    is_cut: bool


def message_tree(message: Any) -> MessageTree:
    """The tree of a JSON value.

    At most 64,000 characters and 2,000 values are shown; of one value at most 4,000 characters.

    >>> tree = message_tree({"url": "/a", "links": [1, 2]})
    >>> tree.root.text, [(node.name, node.text) for node in tree.root.parts], tree.is_cut
    ('2 fields', [('url', '"/a"'), ('links', '2 items')], False)
    """
    growing = _Growing()
    return MessageTree(growing.node("", message, depth=0), growing.is_cut)


class _Growing:
    """What may still be added to a tree."""

    def __init__(self) -> None:
        self.characters, self.nodes, self.is_cut = _MOST_CHARACTERS, _MOST_NODES, False

    def node(self, name: str, value: Any, *, depth: int) -> Node:
        name = self._cropped(printable(name[: _LONGEST_NAME + 1]), _LONGEST_NAME)
        self.nodes -= 1
        self.characters -= len(name)
        match value:
            case dict() | list() if value and depth < _DEEPEST:
                return self._folding(name, cast("Mapping[str, Any] | Sequence[Any]", value), depth)
            case dict() | list() if value:
                self.is_cut = True
                return Node(name, "…", "lit")
            case str() if value in (MASK, TOO_DEEP):
                return Node(name, value, "hidden")
            case str():
                # Some more than is shown, since what does not print takes more space.
                text, kind = json_text(value[: _LONGEST_VALUE + 1]), "str"
            case _:
                text, kind = json_text(value), "lit"
        if len(text) > (longest := max(0, min(_LONGEST_VALUE, self.characters))):
            whole = len(value) if isinstance(value, str) else len(text)
            text = f"{self._cropped(text, longest)} ({counted(whole, 'character')})"
        self.characters -= len(text)
        return Node(name, text, kind)

    def _folding(self, name: str, value: Mapping[str, Any] | Sequence[Any], depth: int) -> Node:
        is_object = isinstance(value, Mapping)
        noun = "field" if is_object else "item"
        pairs = value.items() if isinstance(value, Mapping) else ((f"{i}", part) for i, part in enumerate(value))
        parts: list[Node] = []
        for member, part in pairs:
            if self.nodes <= 0 or self.characters <= 0:
                break
            parts.append(self.node(member, part, depth=depth + 1))
        left = len(value) - len(parts)
        self.is_cut |= left > 0
        more = f"and {counted(left, noun)} more" if left else ""
        is_open = depth == 0 or (depth < 3 and len(value) <= _OPEN_UP_TO)
        return Node(name, counted(len(value), noun), "parts", tuple(parts), more, is_open)

    def _cropped(self, text: str, longest: int) -> str:
        if len(text) <= longest:
            return text
        self.is_cut = True
        return f"{text[:longest]}…"
