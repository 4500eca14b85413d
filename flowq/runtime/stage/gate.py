"""The slots of a stage and its read-ahead, shared by all lanes of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flowq.graph.compilation.plan import StagePlan


class Gate(asyncio.Semaphore):
    """Lets as many handlers of a stage run at once as it has slots, and each lane read its share for them.

    `changed` is set when any lane may have room: one that waits may have the slots that another no longer needs.
    """

    def __init__(self, stage: StagePlan) -> None:
        super().__init__(stage.concurrency)
        self.changed = asyncio.Event()
        self._slots = stage.slots
        self._at_least = stage.slots // stage.concurrency  # one message, or one batch
        self._lanes: dict[object, Callable[[], int]] = {}

    def join(self, lane: object, n_in_flight: Callable[[], int]) -> None:
        """Share with one more lane, which tells how much of what it has in flight is for slots."""
        self._lanes[lane] = n_in_flight

    def leave(self, lane: object) -> None:
        """Share with a lane no longer."""
        self._lanes.pop(lane, None)
        self.changed.set()

    def share(self, most: int) -> int:
        """The part of a number that is for one lane."""
        return max(self._at_least, most // max(1, len(self._lanes)))

    def slots_for(self, lane: object) -> int:
        """For how many slots a lane may read: its share, and what no other lane uses.

        A lane that has nothing reads its share only. It may not be the only one to which messages come at this moment,
        and together they would read as many for each lane as the whole process may have.
        """
        in_flight = {each: n() for each, n in self._lanes.items()}
        share, own = self.share(self._slots), in_flight.pop(lane, 0)
        return max(share, self._slots - sum(in_flight.values())) if own else share
