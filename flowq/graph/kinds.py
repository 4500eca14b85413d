"""What a stage does, how its handler gives its outputs, and where and on how many messages it runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a stage does in the graph."""

    SOURCE = "source"  # emits messages from outside, takes none
    STAGE = "stage"  # takes messages and emits messages
    SINK = "sink"  # takes messages and emits none


class Shape(StrEnum):
    """How a handler gives its outputs."""

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


@dataclass(frozen=True, slots=True)
class Batch:
    """How many messages a handler takes at once, and how long the first of them may wait for the others.

    `max_bytes` bounds the encoded size of them together; one that is larger by itself comes alone.
    """

    size: int
    linger_seconds: float
    max_bytes: int | None = None
