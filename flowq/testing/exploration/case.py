"""One case of an exploration: everything that decides what happens in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowq.testing.faults import Fault


@dataclass(frozen=True, slots=True)
class Case:
    """A seed, which decides the schedule, and the faults; the same case always takes the same course."""

    seed: int
    faults: tuple[Fault, ...] = ()
    workers: int = field(default=2, kw_only=True)
    size: int | None = field(default=None, kw_only=True)  # of the input, for a build that takes one
