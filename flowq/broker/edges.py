"""The edges of a pipeline: their consumer groups, their delayed messages, and how much they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker import scripts
from flowq.broker.client.connection import Command
from flowq.broker.keys import GROUP
from flowq.broker.redis_streams import Broker

_SAMPLES = 50


class Edges:
    """All edges of one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def ensure_groups(self, edges: Sequence[str], *, revoke: bool = False) -> None:
        """Create the consumer group of each edge, starting at the first entry; an existing one is not changed.

        A group that is created again, or `revoke`, ends the registrations of its workers, so that messages which it
        delivers again are settled once.
        """
        names = [self._broker.keys.workers, *(self._broker.keys.edge(edge) for edge in edges)]
        await self._broker.script(scripts.CREATE_GROUPS, names, GROUP, int(revoke), *edges)

    async def promote(self, edges: Sequence[str], *, limit: int = 1000, token: str = "") -> tuple[int, int | None]:
        """Move due messages back to their streams: how many, and milliseconds until the next is due."""
        keys = [key for edge in edges for key in self._broker.keys.of_edge(edge)]
        moved, next_ms = await self._broker.script(
            scripts.PROMOTE, keys, limit, token=token, caller=f"{self._broker.name}:promote"
        )
        return moved, (None if next_ms < 0 else next_ms)

    async def outstanding(self, edges: Sequence[str]) -> dict[str, int]:
        """Messages waiting, running and delayed on each edge."""
        keys = self._broker.keys
        commands = [
            command for edge in edges for command in ((b"XLEN", keys.edge(edge)), (b"ZCARD", keys.delayed(edge)))
        ]
        replies = await self._broker.ask(commands)
        counts = [reply if isinstance(reply, int) else 0 for reply in replies]
        return {edge: counts[2 * i] + counts[2 * i + 1] for i, edge in enumerate(edges)}

    async def memory(self, edges: Sequence[str]) -> Mapping[str, int]:
        """The memory of the messages of each edge in bytes: 0 if there are none, or if Redis does not say.

        Redis estimates it from a sample of the entries, so a long edge takes no longer than a short one.
        """
        commands: list[Command] = []
        for edge in edges:
            stream, bodies = self._broker.keys.edge(edge), self._broker.keys.delayed_bodies(edge)
            commands += [(b"XLEN", stream), (b"MEMORY", b"USAGE", stream, b"SAMPLES", _SAMPLES)]
            commands += [(b"HLEN", bodies), (b"MEMORY", b"USAGE", bodies, b"SAMPLES", _SAMPLES)]
        replies = iter([reply if isinstance(reply, int) else 0 for reply in await self._broker.ask(commands)])
        # An empty key needs some memory as well, which must not count as full.
        sizes = [n_bytes if n else 0 for n, n_bytes in zip(replies, replies, strict=True)]
        return {edge: sum(sizes[2 * i : 2 * i + 2]) for i, edge in enumerate(edges)}
