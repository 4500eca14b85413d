"""What another number of shards means for what is in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EdgeMove:
    """Messages of an edge: all of them, and about how many of these move to another shard."""

    edge: str
    messages: int
    moving: int


@dataclass(frozen=True, slots=True)
class SeenMove:
    """Values that a stage remembers. `is_copied`: they do not tell their shard, so that each shard gets all of them."""

    stage: str
    values: int
    is_copied: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What a shard holds that cannot move to another: it must be empty before it goes.

    >>> str(Contents(3, messages=2, dead_letters=1))
    '2 messages, 1 dead letter'
    """

    shard: int
    messages: int = 0
    dead_letters: int = 0
    kept: int = 0
    in_transit: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.messages or self.dead_letters or self.kept or self.in_transit)

    def __str__(self) -> str:
        parts = (
            (self.messages, "message", ""),
            (self.in_transit, "message", " in transit"),
            (self.dead_letters, "dead letter", ""),
            (self.kept, "kept message", ""),
        )
        return ", ".join(f"{n:,} {what}{'s' * (n != 1)}{where}" for n, what, where in parts if n)


@dataclass(frozen=True, slots=True)
class ShardsChange:
    """From how many shards to how many. `is_interrupted`: the move has begun.

    `leaving` are the shards that go although they hold something: then the change is refused.
    """

    before: int
    after: int
    is_interrupted: bool = False
    edges: Sequence[EdgeMove] = ()
    seen: Sequence[SeenMove] = ()
    leaving: Sequence[Contents] = ()

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(slots=True)
class ShardsMoved:
    """What a move has done: messages given to other shards, by edge, and values moved or copied, by all stages."""

    messages: dict[str, int] = field(default_factory=dict[str, int])
    values: int = 0

    def as_json(self) -> Mapping[str, Any]:
        """As a JSON object."""
        return asdict(self)
