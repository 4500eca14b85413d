"""Addresses messages to the shards in which they live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

from flowq.delivery.edge import address
from flowq.delivery.encoding.codec import value_of
from flowq.delivery.encoding.dedup_key import NO_KEY, dedup_hash
from flowq.delivery.message import Delivery, Row
from flowq.delivery.placement import cell_of, cell_of_hash, cells, with_cell
from flowq.delivery.settlement import Output, new_output
from flowq.errors import BodyElsewhere, EncodeError
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import OutputRouter, carries_cell
from flowq.graph.compilation.stored_keys import StoredKeys
from flowq.graph.declaration.context import Emitted
from flowq.graph.kinds import PlacedBy
from flowq.printable import error_repr

NOWHERE = -1
"""For a sender that is in no shard: all that has a place gets an address."""

_Cell = Callable[[Output], int | None]


class Placing:
    """Where the messages of a pipeline with several shards live. Senders in all processes and versions agree."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shards = cells(plan.shards)
        self._stages = {stage.name: _PlacedStage(stage, plan) for stage in plan.consumers}
        self._edges = {edge.name: self._stages[edge.target] for edge in plan.edges}

    def moves(self, edge: str) -> bool:
        """Whether messages that a stage sends along an edge may have to leave its shard."""
        return self._edges[edge].placed_by not in (PlacedBy.NOTHING, PlacedBy.HERE)

    def placed(self, output: Output, here: int, *, enters: bool = False) -> Output:
        """The output with the address of its shard, unless it stays `here`.

        `enters`: it comes from outside, so that one without a key is as well in any shard. Raises EncodeError if its
        place cannot be determined.
        """
        stage = self._edges[output.edge]
        cell, value = stage.cell(output), output.dedup_hash
        if cell is None:
            if not enters or stage.placed_by is PlacedBy.HERE:
                return output
            cell = cell_of(_message_id(output))
        if stage.carries_cell and value:
            value = with_cell(value, cell, stage.n_hash_bytes)
        shard = self._shards[cell]
        edge = output.edge if shard == here else address(shard, output.edge)
        return new_output((edge, output.header, output.body, value, output.delay_ms))

    def place_of(self, delivery: Delivery, here: int) -> tuple[str, bytes]:
        """Where a message that is stored `here` lives: its edge, with an address if that is elsewhere, and its hash.

        One whose place cannot be determined stays. Raises BodyElsewhere.
        """
        output = _as_output(delivery, self._edges[delivery.edge].dedup_hash(delivery))
        try:
            placed = self.placed(output, here)
        except EncodeError:
            return output.edge, output.dedup_hash
        return placed.edge, placed.dedup_hash


class _PlacedStage:
    """Where the messages to one stage live."""

    def __init__(self, stage: StagePlan, plan: Plan) -> None:
        self.placed_by = stage.placed_by
        self.carries_cell = carries_cell(plan, stage)
        self.n_hash_bytes = stage.dedup_memory.hash_bytes if stage.dedup_memory else 0
        self._stage = stage
        self._keys = StoredKeys(stage, plan)
        self.cell: _Cell = self._cell_function()

    def dedup_hash(self, delivery: Delivery) -> bytes:
        """The hash of a stored message. Raises BodyElsewhere."""
        if self._stage.dedup is None:
            return NO_KEY
        try:
            return dedup_hash(value_of(self._keys.message(delivery), self._stage.dedup.by))
        except BodyElsewhere:
            raise
        except (Exception, GeneratorExit, SystemExit):  # noqa: BLE001  (undecodable bytes, or the user's property)
            return NO_KEY

    def _cell_function(self) -> _Cell:
        match self.placed_by:
            case PlacedBy.NOTHING | PlacedBy.HERE:
                return lambda _: None
            case PlacedBy.MESSAGE:
                return lambda output: cell_of(_message_id(output))
            case PlacedBy.STAGE:
                home = cell_of(self._stage.name.encode())
                return lambda _: home
            case PlacedBy.DEDUP:
                return _cell_of_value
            case PlacedBy.RATE:
                return self._cell_of_pacing_key
            case PlacedBy.FIELD:
                return self._cell_of_field
            case _:
                assert_never(self.placed_by)

    def _cell_of_pacing_key(self, output: Output) -> int | None:
        key = self._keys.pacing_key_of_sent(output)
        return _cell_of_value(output) if key is None else cell_of(key.encode("utf-8", "surrogatepass"))

    def _cell_of_field(self, output: Output) -> int | None:
        place: Any = self._stage.place_by
        try:
            value = dedup_hash(value_of(self._keys.sent(output), place))
        except BodyElsewhere:
            raise
        except (Exception, GeneratorExit, SystemExit) as error:  # raised by the user's property or function
            raise EncodeError(
                f"the place of a message to {self._stage.name} failed", detail=error_repr(error)
            ) from error
        return cell_of_hash(value) if value else _cell_of_value(output)


def _cell_of_value(output: Output) -> int | None:
    """The cell by which equal messages meet; None for a message that is equal to none."""
    return cell_of_hash(output.dedup_hash) if output.dedup_hash else None


def _message_id(output: Output) -> bytes:
    return output.header.partition(b" ")[0]


def _as_output(delivery: Delivery, value: bytes) -> Output:
    return Output(delivery.edge, delivery.header_bytes, delivery.body, value)


class PlacedRouter(OutputRouter):
    """An `OutputRouter` whose outputs have the addresses of their shards, except for those that stay `here`."""

    def __init__(self, stage: StagePlan, plan: Plan, next_id: Callable[[], bytes], *, here: int) -> None:
        super().__init__(stage, plan, next_id)
        self._placing = Placing(plan)
        self.here = here
        self._may_move = any(self._placing.moves(edge) for route in stage.routes for edge in route.edges)

    def outputs(self, values: Iterable[Any], row: Row) -> list[Output]:
        """As in `OutputRouter`."""
        outputs = super().outputs(values, row)
        return self._placed(outputs) if self._may_move else outputs

    def emitted(self, emitted: Sequence[Emitted], row: Row) -> list[Output]:
        """As in `OutputRouter`."""
        return self._placed(super().emitted(emitted, row))

    def entering(self, value: Any) -> list[Output]:
        """As in `OutputRouter`."""
        return self._placed(super().entering(value), enters=True)

    def _placed(self, outputs: Sequence[Output], *, enters: bool = False) -> list[Output]:
        placed, here = self._placing.placed, self.here
        return [placed(output, here, enters=enters) for output in outputs]


def router_of(stage: StagePlan, plan: Plan, next_id: Callable[[], bytes], *, here: int) -> OutputRouter:
    """The router of a stage whose messages are handled in the shard `here`."""
    return OutputRouter(stage, plan, next_id) if plan.shards == 1 else PlacedRouter(stage, plan, next_id, here=here)
