"""The inlet of a stage of a pipeline with several shards: each message is appended where it lives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowq.broker.claims import ClaimCheck
from flowq.broker.publishing import Parcel
from flowq.broker.records import Published
from flowq.broker.shards.layout import WrongLayout
from flowq.broker.shards.publishing_out import PublishingOut
from flowq.delivery.edge import parse_address
from flowq.delivery.placement import shard_of
from flowq.delivery.settlement import Output
from flowq.errors import PayloadTooLarge
from flowq.graph.compilation.placing import NOWHERE, Placing
from flowq.graph.compilation.routing import deduplicating_edges
from flowq.pushing.entrance import Entrance, PushCall, total
from flowq.pushing.layouts import Layout, Layouts


class ShardedEntrance:
    """An inlet in all shards.

    A call that may be made again with the same id goes through one shard, that of the id: what belongs to others leaves
    from there, in the same step. Any other call is made in each shard for the messages that live there.

    A shard that has another layout by now stores nothing: what it has refused is placed anew.
    """

    def __init__(self, edge: str, layouts: Layouts, claims: ClaimCheck | None) -> None:
        self._edge = edge
        self._layouts = layouts
        self._claims = claims
        self._inlet = _Inlet(edge, layouts.current, claims)

    @property
    def most_bytes(self) -> int:
        """The size of what one call may add."""
        return self._inlet.shards[0].most_bytes

    async def publish(self, call: PushCall) -> Published:
        """As in `Entrance`: all or nothing in each shard, and all or nothing for a call that has an id.

        Waits while shards are moved, as for room. Raises WrongLayout if it does not.
        """
        stored, refused_bodies, n_moves = list[Published](), list[PayloadTooLarge](), 0
        rest = call
        while True:
            inlet = self._inlet_in(self._layouts.current)
            outcome = await (inlet.through_one(rest) if call.known_by else inlet.to_each(rest))
            stored += outcome.stored
            refused_bodies += outcome.refused_bodies
            if outcome.refused is None:
                break
            await self._layouts.after(inlet.layout, outcome.refused, waits=call.waits)
            n_moves += 1
            # A shard that has stored its part under this token would take what comes to it now for the same.
            token = call.token if call.known_by else f"{call.token}/{n_moves}"
            rest = replace(call, outputs=outcome.not_stored, token=token)
        if refused_bodies:
            refused_bodies[0].stored = len(call.outputs)  # all are, except those that are too large: see `Entrance`
            raise refused_bodies[0]
        return stored[0] if call.known_by else total(stored)

    def _inlet_in(self, layout: Layout) -> _Inlet:
        if layout is not self._inlet.layout:
            self._inlet = _Inlet(self._edge, layout, self._claims)
        return self._inlet


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What has become of a call: `refused` if shards have another layout, with the outputs that they did not store."""

    stored: Sequence[Published] = ()
    refused: WrongLayout | None = None
    not_stored: Sequence[Output] = ()
    refused_bodies: Sequence[PayloadTooLarge] = ()


class _Inlet:
    """An inlet in the shards of one layout."""

    def __init__(self, edge: str, layout: Layout, claims: ClaimCheck | None) -> None:
        self.layout = layout
        plan = layout.plan
        of_shard, memory = plan.edge_in_shard[edge], deduplicating_edges(plan).get(edge)
        self._placing = Placing(plan)
        self.shards = [
            _EntranceOfShard(of_shard, memory, each, PublishingOut(each), claims) for each in layout.broker.shards
        ]

    async def through_one(self, call: PushCall) -> _Outcome:
        here = shard_of(call.known_by.encode(), len(self.shards))
        outputs = [self._placing.placed(output, here, enters=True) for output in call.outputs]
        elsewhere = {shard for output in outputs if (shard := parse_address(output.edge).shard) is not None}
        for shard in sorted(elsewhere):
            await self.shards[shard].until_room(call)
        try:
            return _Outcome([await self.shards[here].publish(replace(call, outputs=outputs))])
        except WrongLayout as error:
            return _Outcome(refused=error, not_stored=call.outputs)

    async def to_each(self, call: PushCall) -> _Outcome:
        by_shard: defaultdict[int, list[tuple[Output, Output]]] = defaultdict(list)
        for output in call.outputs:
            placed = self._placing.placed(output, NOWHERE, enters=True)
            shard, edge = parse_address(placed.edge)
            by_shard[shard or 0].append((output, placed._replace(edge=edge)))
        calls = [
            self.shards[shard].publish(replace(call, outputs=[placed for _, placed in outputs]))
            for shard, outputs in sorted(by_shard.items())
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        parts = [[output for output, _ in outputs] for _, outputs in sorted(by_shard.items())]
        return _outcome_of(list(zip(results, parts, strict=True)))


def _outcome_of(results: Sequence[tuple[Published | BaseException, Sequence[Output]]]) -> _Outcome:
    """What has become of the parts of a call. Raises what ends it: some shards may have stored theirs even so."""
    stored, refused, not_stored, bodies = list[Published](), None, list[Output](), list[PayloadTooLarge]()
    for result, outputs in results:
        match result:
            case Published():
                stored.append(result)
            case PayloadTooLarge():
                bodies.append(result)
            case WrongLayout():
                refused = result
                not_stored += outputs
            case _:
                raise result
    return _Outcome(stored, refused, not_stored, bodies)


class _EntranceOfShard(Entrance):
    """An inlet in one shard, from which messages may leave for others."""

    async def _send(self, call: PushCall) -> Published:
        by_edge: defaultdict[str, list[Output]] = defaultdict(list)
        for output in call.outputs:
            by_edge[output.edge].append(output)
        parcels = [Parcel(edge, outputs, (), self._memory, self.edge.maxsize) for edge, outputs in by_edge.items()]
        try:
            return await self._publishing.publish_together(
                parcels, token=call.token, call_id=call.id, delay_ms=call.delay_ms
            )
        except WrongLayout:
            if await self._publishing.was_published(call.token):  # before the move, by an attempt without a reply
                return Published(len(call.outputs), 0, is_repeated=await self._is_of_another(call))
            if self._claims is not None:
                await self._claims.withdraw(call.outputs)
            raise

    async def _is_of_another(self, call: PushCall) -> bool:
        return bool(call.id) and not await self._publishing.was_published(call.id)
