"""The connections of a process to the nodes that hold the shards of a pipeline."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from flowq.broker.client.connection import Dialer, Link
from flowq.broker.client.redis_errors import translate
from flowq.broker.client.redis_protocol import Connection
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.client.topology import ClusterDialer
from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerUnavailable


class NodeLink(Link):
    """A link over one connection. It is never replaced by another: what is known of its server ends with it."""

    def __init__(self, dialer: Dialer, connection: Connection, broker: Broker) -> None:
        super().__init__(_Opened(dialer, connection), broker.world)
        self._made: Connection | None = connection
        self.is_alone = False  # whether other nodes have said that this one has no replica

    @property
    def is_usable(self) -> bool:
        """Whether its connection still exists."""
        return self._made is not None and not self._made.is_lost

    async def _exchange(self, request: bytes, n_replies: int, timeout_seconds: float) -> list[Any]:
        """As in `Link`. When a caller is cancelled, its reply is awaited, so that others keep the connection."""
        exchange = asyncio.ensure_future(super()._exchange(request, n_replies, timeout_seconds))
        exchange.add_done_callback(_note_result)
        return await asyncio.shield(exchange)

    async def close(self) -> None:
        made, self._made = self._made, None
        await super().close()
        if made is not None:  # it may not have been used yet
            await made.close()


def _note_result(exchange: asyncio.Future[list[Any]]) -> None:
    """Without this, asyncio would log the error of an exchange whose caller was cancelled as never looked at."""
    if not exchange.cancelled():
        exchange.exception()


class NodeLinks:
    """One connection for each node, however many shards it holds and however many forwarders use it.

    Make one for a process and give it to each `Forwarder`.
    """

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self._brokers = brokers
        self._of_shard: dict[int, NodeLink] = {}
        self._of_node: dict[object, NodeLink] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def to(self, shard: int) -> NodeLink:
        """The link to the node that holds a shard now. Raises BrokerUnavailable and BrokerRefused."""
        async with self._turns[shard]:
            link = self._of_shard.get(shard)
            if link is None or not link.is_usable:
                link = self._of_shard[shard] = await self._find(shard)
            return link

    def known(self, shard: int) -> NodeLink | None:
        """The link that `to` would return without dialing."""
        link = self._of_shard.get(shard)
        return link if link is not None and link.is_usable else None

    def look_again(self, shard: int) -> None:
        """Have the next call find out again where a shard is."""
        self._of_shard.pop(shard, None)

    async def close(self) -> None:
        """Close all of them."""
        links = dict.fromkeys((*self._of_node.values(), *self._of_shard.values()))
        self._of_node.clear()
        self._of_shard.clear()
        for link in links:
            await link.close()

    async def _find(self, shard: int) -> NodeLink:
        """Dial, and see where that leads: only a connection tells which node of a Cluster holds the slot now."""
        broker = self._brokers[shard]
        dialer = broker.dialer  # shards on one server share it, whatever its address
        known = self._of_node.get(dialer)
        if known is not None and known.is_usable:
            return known
        try:
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                connection = await dialer.dial()
        except Exception as error:
            raise translate(error, dialer.address) from error
        server = getattr(connection, "server", None)
        node = (dialer.url, server) if server else dialer
        link = self._of_node.get(node)
        if link is not None and link.is_usable:
            await connection.close()
        else:
            link = NodeLink(dialer, connection, broker)
        self._of_node[node] = link
        if not isinstance(dialer, ClusterDialer):
            self._of_node[dialer] = link
        return link


class _Opened:
    """Hands out one connection that exists, once."""

    def __init__(self, dialer: Dialer, connection: Connection) -> None:
        self.url, self.address, self.is_private = dialer.url, dialer.address, dialer.is_private
        self._connection: Connection | None = connection

    async def dial(self) -> Any:
        connection, self._connection = self._connection, None
        if connection is None or connection.is_lost:
            raise BrokerUnavailable(f"the connection to Redis at {self.address} has ended", hint="it is dialed again")
        return connection
