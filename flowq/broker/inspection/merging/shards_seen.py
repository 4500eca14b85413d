"""What each shard of a pipeline holds, which of them do not answer, and what is in transit between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from flowq.broker.shards.every_shard import SilentShard
from flowq.broker.shards.waves import InTransit

T = TypeVar("T")

_HOT = 2.0
_FEWEST_PER_SHARD = 100  # less says nothing about how keys are spread


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """One shard. `received` are the messages that came to stages there in this run, `rate` those settled per second.

    `dead_letters` are those kept now. `lost` are messages that it was certain to have and has forgotten, all of them
    from other shards. `workers` are the processes that serve it. `received_before_move` are those of `received` that
    had come when shards were last moved, if that was in this run: the shards of that time are others.
    """

    shard: int
    address: str
    received: int
    waiting: int
    delayed: int
    running: int
    dead_letters: int
    rate: float | None
    memory_bytes: int
    workers: int
    lost: int = 0
    received_before_move: int = 0

    @property
    def received_since_move(self) -> int:
        return self.received - self.received_before_move

    @property
    def outstanding(self) -> int:
        return self.waiting + self.delayed + self.running

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        rate = None if self.rate is None else round(self.rate, 1)
        return {**asdict(self), "rate": rate, "outstanding": self.outstanding}


@dataclass(frozen=True, slots=True)
class ShardsSeen(Generic[T]):
    """All shards of a pipeline in one look: what was seen of each that answered, and those that did not.

    `in_transit` are the messages between shards that answered, by source and target; `lost` likewise.
    """

    by_shard: Mapping[int, T]
    silent: Sequence[SilentShard]
    in_transit: InTransit
    lost: InTransit

    @property
    def total(self) -> int:
        """The number of shards of the pipeline."""
        return len(self.by_shard) + len(self.silent)

    @property
    def all_in_transit(self) -> int:
        """Messages in transit between shards that answered."""
        return sum(self.in_transit.values())

    def leaving(self, shard: int) -> int:
        """Messages in transit from a shard to others, as far as known."""
        return sum(n for (source, _), n in self.in_transit.items() if source == shard)


@dataclass(frozen=True, slots=True)
class ShardsOverview(ShardsSeen[ShardFigures]):
    """The figures of all shards that answered."""

    @property
    def hot(self) -> int | None:
        """The shard that received most messages, if it has more than twice the mean of all that answered."""
        return hottest({shard: each.received_since_move for shard, each in self.by_shard.items()})

    @property
    def unserved(self) -> Sequence[int]:
        """Shards that hold messages and have no worker, while others have some."""
        if not any(each.workers for each in self.by_shard.values()):
            return ()
        return [shard for shard, each in self.by_shard.items() if each.outstanding and not each.workers]

    def each(self) -> Iterator[ShardFigures | SilentShard]:
        """All shards in order."""
        by_number: dict[int, ShardFigures | SilentShard] = {each.shard: each for each in self.silent} | {
            **self.by_shard
        }
        return (by_number[shard] for shard in sorted(by_number))

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON. The number of what is unknown is null."""
        unknown = dict.fromkeys((*ShardFigures.__dataclass_fields__, "outstanding"))
        rows: list[dict[str, Any]] = []
        for each in self.each():
            if isinstance(each, ShardFigures):
                rows.append({**each.as_json(), "in_transit": self.leaving(each.shard)})
            else:
                rows.append({**unknown, "shard": each.shard, "address": each.address, "in_transit": None})
        return {
            "in_transit": self.all_in_transit,
            "hot_shard": self.hot,
            "shards": rows,
            "missing": [each.as_json() for each in self.silent],
        }


def hottest(messages: Mapping[int, int]) -> int | None:
    """The shard with most messages, if it has more than twice the mean of all; None if none has, or there are too few.

    >>> hottest({0: 100, 1: 100, 2: 500}), hottest({0: 100, 1: 150}), hottest({0: 0, 1: 0, 2: 5})
    (2, None, None)
    """
    mean = sum(messages.values()) / max(1, len(messages))
    most = max(messages, key=messages.__getitem__, default=0)
    return most if mean >= _FEWEST_PER_SHARD and messages[most] > _HOT * mean else None
