"""The connections of a process to the nodes that hold the shards of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.redis_streams import Broker


class NodeLinks:
    """One connection for each node, however many shards it holds and however many forwarders use it.

    Make one for a process and give it to each `Forwarder`.
    """

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self._brokers = brokers

    async def close(self) -> None:
        """Close all of them."""
        raise NotImplementedError
