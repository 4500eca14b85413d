"""What a stage of this process has been given and has not settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from flowq.broker.settling import Settled
from flowq.delivery.message import Delivery


class Held:
    """The entries at hand, by edge; `n` is how many there are."""

    def __init__(self) -> None:
        self.n = 0
        self._ids: defaultdict[str, set[bytes]] = defaultdict(set)

    def take(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Hold these; returns those that are new."""
        new: list[Delivery] = []
        for delivery in deliveries:
            ids = self._ids[delivery.edge]
            if delivery.entry_id not in ids:
                ids.add(delivery.entry_id)
                new.append(delivery)
        self.n += len(new)
        return new

    def let_go(self, edge: str, items: Sequence[Settled]) -> int:
        """These have been settled; returns how many of them were held."""
        ids = self._ids[edge]
        before = len(ids)
        ids.difference_update([delivery.entry_id for deliveries, _ in items for delivery in deliveries])
        finished = before - len(ids)
        self.n -= finished
        return finished

    def copy(self) -> Mapping[str, set[bytes]]:
        """The entries at this moment."""
        return {edge: set(ids) for edge, ids in self._ids.items()}
