"""The runs of a pipeline with several shards: shard 0 decides, and every other shard joins."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

from flowq.broker import scripts
from flowq.broker.client.retrying import again_if_lost
from flowq.broker.keys import GROUP
from flowq.broker.runs import Runs, keys_of_run
from flowq.broker.shards.forwarding import flush
from flowq.broker.shards.waves import in_transit, look
from flowq.delivery.stored import text_in

_JOINING = "*shards"
"""The source that stands for the joining: what has begun is not drained before all shards have joined."""


class RunsOfShards(Runs):
    """The current run of one pipeline, and those before it. Raises BrokerUnavailable if a shard does not answer."""

    async def begin(
        self,
        run_id: str,
        *,
        sources: Sequence[str],
        signature: str,
        edges: Sequence[str],
        stages: Sequence[str],
        fresh: bool = False,
        remembering: Collection[str] = (),
        orphans: Sequence[str] = (),
    ) -> tuple[str, bool, dict[str, bool]]:
        """As in `Runs`, once every shard has joined. A run whose start was interrupted is completed by the next."""
        if fresh:
            await self._empty_outboxes()
        remembered = () if fresh else remembering
        named = [*sources, _JOINING]
        while True:
            looked_at, is_held = await self._look([*edges, *orphans])
            names, n_seen = keys_of_run(self._broker.keys, edges, stages, remembered, orphans)
            arguments = (
                run_id, n_seen, len(edges), int(fresh), signature, GROUP, len(orphans), *orphans, *named,
                looked_at, int(is_held and not fresh),
            )  # fmt: skip
            start = partial(self._broker.script, scripts.START_RUN_OF_SHARDS, names, *arguments)
            reply = await again_if_lost(start)
            if reply[0] != -1:
                break
        current = text_in(reply[0])
        for broker in self._broker.shards[1:]:
            names, n_seen = keys_of_run(broker.keys, edges, stages, remembered, orphans)
            arguments = current, n_seen, len(edges), int(fresh), GROUP, len(orphans)
            await again_if_lost(partial(broker.script, scripts.JOIN_RUN, names, *arguments))
        await again_if_lost(partial(self.finish_source, _JOINING, signature))
        finished = {source: bool(done) for source, done in zip(sources, reply[2:], strict=False)}
        return current, bool(reply[1]), finished

    async def _look(self, edges: Sequence[str]) -> tuple[str, bool]:
        """The run that there is, and whether any shard but this one, or any outbox, holds something."""
        looks = await asyncio.gather(*(look(broker, edges) for broker in self._broker.shards))
        is_held = any(each.outstanding for each in looks[1:]) or bool(in_transit(looks))
        return looks[0].run.get("id", ""), is_held

    async def _empty_outboxes(self) -> None:
        """Apply what is in transit: a fresh run removes it where it arrives."""
        await asyncio.gather(*(flush(broker) for broker in self._broker.shards))
