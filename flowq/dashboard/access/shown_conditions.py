"""Conditions on messages that compare only what is shown: what they select tells nothing of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flowq.dashboard.access.shown_fields import ShownFields
from flowq.dead_letters.condition import Condition
from flowq.errors import UsageError


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
