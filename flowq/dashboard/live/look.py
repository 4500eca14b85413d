"""One look at a pipeline: what all pages show of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowq.broker.inspection.overview import Overview

if TYPE_CHECKING:
    from flowq.errors import FlowqError


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A pipeline at one moment.

    - `look_ms`: how long reading took.
    - `rates`: by stage, messages per second in each quarter of a minute of the last 15 minutes, the newest last; None
      where nothing is known.
    - `left`: how many messages the pipeline held, in each five seconds of the last hour, as `rates`.
    - `texts`: what the page shows of it, by the name of its place: see `slots`.
    - `trouble`: why there is nothing newer; None as long as Redis answers.
    """

    overview: Overview
    look_ms: float
    rates: Mapping[str, Sequence[float | None]] = field(default_factory=dict[str, "Sequence[float | None]"])
    left: Sequence[float | None] = ()
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    trouble: FlowqError | None = None

    @property
    def at_ms(self) -> int:
        """The moment, by the clock of Redis, in milliseconds since 1970."""
        return self.overview.snapshot.now_ms
