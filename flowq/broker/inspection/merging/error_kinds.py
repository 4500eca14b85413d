"""What several shards count by stage and kind of error, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar


class _HasKind(Protocol):
    @property
    def kind(self) -> str: ...


Counted = TypeVar("Counted", bound=_HasKind)


def merged_by_kind(
    seen: Iterable[Mapping[str, Sequence[Counted]]], both: Callable[[Counted, Counted], Counted]
) -> dict[str, list[Counted]]:
    """The counts of every stage, one for each kind: `both` makes one of two shards' counts of the same kind."""
    found: dict[str, dict[str, Counted]] = {}
    for each in seen:
        for stage, counts in each.items():
            kinds = found.setdefault(stage, {})
            for counted in counts:
                known = kinds.get(counted.kind)
                kinds[counted.kind] = counted if known is None else both(known, counted)
    return {stage: [*kinds.values()] for stage, kinds in found.items()}
