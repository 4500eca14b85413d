"""Conditions on messages that compare only what is shown: what they select tells nothing of the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from flowq.dashboard.access.shown_fields import MASK, ShownFields, masked_text
from flowq.dead_letters.condition import Condition
from flowq.errors import UsageError

_WORD = re.compile(r"""(?:\$'(?:[^'\\]|\\.)*(?:'|\\?\Z)|'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)|[^\s'"])+""", re.DOTALL)
_COMPARED = re.compile(r"\$?'?(?P<compared>(?P<path>[\w.-]+)(?:[!<>]?=|[~<>]))")


@dataclass(frozen=True, slots=True)
class ShownCondition(Condition):
    """A condition on a field as the page shows it: an object may hold secrets, and a URL a password."""

    shown: ShownFields

    def holds(self, message: Any) -> bool:
        return Condition.holds(self, self.shown.branch(message, self.path))


def conditions_in(written: Iterable[str], shown: ShownFields) -> tuple[Condition, ...]:
    """The conditions as they are typed. Raises UsageError for a field that is not shown."""
    conditions = tuple(map(Condition.parse, written))
    for condition in conditions:
        if not shown.allows(condition.path):
            raise UsageError(f'the field "{condition.path}" is not shown here, and cannot be searched')
    return tuple(ShownCondition(each.path, each.operator, each.text, shown) for each in conditions)


def shown_words(command: str, shown: ShownFields) -> str:
    """The words of a command as `shell_command` writes it, the last perhaps cut, without values that are not shown.

    >>> hidden = ShownFields(everything=False, paths=("dest",))
    >>> shown_words("--stage book --where 'mail~ann*' --where dest=SJU", hidden)
    '--stage book --where mail~•••••• masked --where dest=SJU'
    """
    words = pairwise(["", *_WORD.findall(command)])
    return masked_text(" ".join(_shown(word, shown) if before == "--where" else word for before, word in words))


def _shown(condition: str, shown: ShownFields) -> str:
    found = _COMPARED.match(condition)
    if found is None:
        return MASK
    return condition if shown.allows(found["path"]) else found["compared"] + MASK
