"""One run of a pipeline with several shards: drained when one certain look at each shard has found nothing."""

from __future__ import annotations

import asyncio

from flowq.broker.inspection.merging.snapshots import snapshot_of_all_shards
from flowq.broker.records import Snapshot
from flowq.broker.runs import Runs
from flowq.broker.shards.runs_of_shards import RunsOfShards
from flowq.broker.shards.waves import is_drained, look
from flowq.runtime.run import Run


class RunOfShards(Run):
    """One run of a pipeline with several shards."""

    def _runs(self) -> Runs:
        return RunsOfShards(self._broker.shards[0])

    async def snapshot(self) -> Snapshot:
        """As in `Run`: the sums of all shards."""
        return await snapshot_of_all_shards(self._broker, self._edges, self._stages)

    async def is_drained(self, snapshot: Snapshot) -> bool:
        """As in `Run`. Sums of several moments only show whether looks at all shards are worth while."""
        if not snapshot.is_drained or snapshot.in_transit:
            return False
        return is_drained(await asyncio.gather(*(look(broker, self._edges) for broker in self._broker.shards)))
