"""What a harness was asked for: the plan, the seed, the faults, the clock and the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from flowq.errors import UsageError, did_you_mean
from flowq.graph.compilation.plan import Plan
from flowq.testing.faults import Crash, Fault, PoisonBody, Slow

ClockName = Literal["virtual", "real"]

START = datetime(2030, 1, 1, tzinfo=UTC)
"""When a virtual clock begins, unless a test says otherwise."""

SHORTEST_LEASE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it. `redis`: the URL of a server, None for a fake one. `start`: None for now, or for `START`.
    `servers`: how many fake ones hold the shards, None for one each.

    Raises NotFound for a fault at a stage that is not in the plan, which would never happen, and UsageError for an
    unknown clock, fewer than one worker, a lease shorter than `SHORTEST_LEASE_SECONDS`, a seed that is not a whole
    number, or what is no fault.
    """

    plan: Plan
    seed: int
    faults: Sequence[Fault]
    n_workers: int
    lease_seconds: float
    start: datetime | None
    clock: ClockName
    redis: str | None
    servers: int | None = None

    @property
    def n_servers(self) -> int:
        """How many servers hold the shards, in turn: one for each, unless it is a real one."""
        if self.redis is not None:
            return 1
        return self.plan.shards if self.servers is None else min(self.servers, self.plan.shards)

    def __post_init__(self) -> None:
        self._check_faults()
        # Types of a test are rarely checked, and a seed of another type would be taken for a number elsewhere.
        if not isinstance(self.seed, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"a seed is a whole number, not {self.seed!r}", hint="seed=7")
        if self.clock not in (clocks := get_args(ClockName)):
            hint = did_you_mean(self.clock, clocks, f"one of: {', '.join(clocks)}")
            raise UsageError(f'no clock is called "{self.clock}"', hint=hint)
        if not isinstance(self.n_workers, int) or self.n_workers < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"a harness cannot have {self.n_workers} workers", hint="workers=1")
        if self.servers is not None and self.servers < 1:
            raise UsageError(f"a harness cannot have {self.servers} servers", hint="servers=1")
        if self.lease_seconds < SHORTEST_LEASE_SECONDS:
            raise UsageError(f"a lease of {self.lease_seconds:g} s is too short", hint='lease="15s"')
        if self.start is not None and getattr(self.start, "tzinfo", None) is None:
            raise UsageError(f"start={self.start} has no time zone", hint="datetime(2030, 1, 1, tzinfo=UTC)")

    def _check_faults(self) -> None:
        if isinstance(self.faults, Fault):
            raise UsageError("faults= takes a list of faults", hint=f"faults=[{self.faults}]")
        for fault in self.faults:
            if not isinstance(fault, Fault):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(f"faults=: {fault!r} is not a fault", hint='faults=[Crash(stage, before="settle")]')
            if isinstance(fault, Crash | PoisonBody | Slow):
                self.plan.stage(fault.stage)
