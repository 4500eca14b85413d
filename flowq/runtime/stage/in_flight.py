"""The deliveries that a stage of this process has received and not settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Generator, Sequence
from contextlib import contextmanager

from flowq.delivery.message import Delivery
from flowq.delivery.settlement import Settled


class InFlight:
    """The held entries by edge; `n` is their number."""

    def __init__(self) -> None:
        self.n = 0
        self._ids: defaultdict[str, set[bytes]] = defaultdict(set)
        self._watch: set[tuple[str, bytes]] | None = None

    def take(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold these; returns those that are new."""
        new: list[Delivery] = []
        for delivery in deliveries:
            ids = self._ids[delivery.edge]
            if delivery.entry_id not in ids:
                ids.add(delivery.entry_id)
                new.append(delivery)
        self.n += len(new)
        if self._watch is not None:
            self._watch.update([(delivery.edge, delivery.entry_id) for delivery in new])
        return new

    def let_go(self, edge: str, items: Sequence[Settled]) -> int:
        """Release these after their settlement; returns how many of them were held."""
        ids = self._ids[edge]
        before = len(ids)
        ids.difference_update([delivery.entry_id for deliveries, _ in items for delivery in deliveries])
        finished = before - len(ids)
        self.n -= finished
        return finished

    @contextmanager
    def watched(self) -> Generator[Container[tuple[str, bytes]]]:
        """Edge and id of everything that is held at any time within the `with`, however briefly."""
        self._watch = {(edge, entry_id) for edge, ids in self._ids.items() for entry_id in ids}
        try:
            yield self._watch
        finally:
            self._watch = None
