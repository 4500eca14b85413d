"""What a stage does, how its handler returns its outputs, where and on how many messages it runs, where they live."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a stage does in the graph."""

    SOURCE = "source"  # emits messages from outside, accepts none
    STAGE = "stage"  # accepts messages and emits messages
    SINK = "sink"  # accepts messages and emits none


class Shape(StrEnum):
    """How a handler returns its outputs."""

    FUNCTION = "function"
    GENERATOR = "generator"
    COROUTINE = "coroutine"
    ASYNC_GENERATOR = "async generator"

    @property
    def is_async(self) -> bool:
        return self in (Shape.COROUTINE, Shape.ASYNC_GENERATOR)


class Placement(StrEnum):
    """Where a handler runs."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"


class PlacedBy(StrEnum):
    """What decides in which shard of a pipeline the messages to a stage live."""

    NOTHING = "nothing"  # they stay where they were emitted; from outside, as by MESSAGE
    HERE = "here"  # they stay; from outside, they are in shard 0
    MESSAGE = "message"  # the message id: evenly over all shards
    STAGE = "stage"  # all are in one shard, which the name of the stage decides
    RATE = "rate"  # the key by which they are paced
    DEDUP = "dedup"  # the value by which they are deduplicated
    FIELD = "field"  # the field or function in the option `place`


@dataclass(frozen=True, slots=True)
class Batch:
    """How many messages a handler gets in one call, and how long the first of them may wait for the others.

    `size` is in messages, `linger_seconds` in seconds. `max_bytes` bounds their total size, encoded; a message larger
    than that is handled alone.

    >>> Batch(size=200, linger_seconds=0.2).max_bytes
    """

    size: int
    linger_seconds: float
    max_bytes: int | None = None
