"""Forwards what lies in the outboxes of one shard to the shards it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.node_links import NodeLinks

Assurance = Literal["auto", "replicated", "local"]
"""What must have an entry before it may be offered: a replica where one is attached; always one; the server itself."""


class Forwarder:
    """Forwards what lies in the outboxes of one shard. One for each lane; several of one shard do no harm.

    `links`: shared by all forwarders of a process, which then have one connection for each node. `on_outstanding` is
    told how many messages are outstanding on the edges of other shards, by address, after each call.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        links: NodeLinks | None = None,
        assurance: Assurance = "auto",
        on_outstanding: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self._broker = broker
        self._links = links or NodeLinks(broker.shards)
        self._assurance: Assurance = assurance
        self._on_outstanding = on_outstanding

    def note(self, entries: Sequence[Any]) -> None:
        """Note entries that a call has just put into outboxes: `OnSent`. They need not be read back."""
        raise NotImplementedError

    async def run(self) -> None:
        """Forward until cancelled. Raises BrokerRefused, and WrongLayout when shards were moved meanwhile."""
        raise NotImplementedError

    async def flush_until_certain(self) -> None:
        """Wait until all that lay in the outboxes is applied, and certain to stay so. `run` must be running."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close its connection to the source."""
        raise NotImplementedError

    @property
    def in_transit(self) -> int:
        """How many messages lie in the outboxes and are not yet applied, as far as known."""
        raise NotImplementedError

    @property
    def is_clogged(self) -> bool:
        """Whether some shard has not taken anything for so long that no more may be settled for it."""
        raise NotImplementedError

    @property
    def lost(self) -> Mapping[int, int]:
        """How many messages each shard has forgotten though it was certain to have them, found by this forwarder."""
        raise NotImplementedError

    def outstanding(self, to: int, edge: str) -> int:
        """How many messages an edge of another shard held when something was last applied there."""
        raise NotImplementedError
