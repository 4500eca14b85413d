"""What a pipeline holds at one instant: messages that wait, dead letters, held keys, and the balance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flowq.broker.inspection.browse import Browser, Sight, State
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import StageBalance, balance_of
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.edge import Edge
from flowq.delivery.message import Arrival, Delivery
from flowq.delivery.stored import text_in
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.testing.decoding import Decoding

QUEUED = "queued"
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that has been accepted and not settled.

    `state`: "waiting" for a worker, "running" in a handler or about to be, "delayed" until `due`, or "queued" behind
    others of its pacing `key`, which may be held. `due` is None for all but the delayed ones.
    """

    stage: str
    message: Any
    message_id: str
    attempt: int
    state: str
    due: datetime | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter. `reason` is flowq's: "attempts exhausted", "rejected" and so on; `error` the first line of the
    exception with its type, and "" if nothing was raised."""

    stage: str
    message: Any
    message_id: str
    reason: str
    error: str
    attempts: int
    traceback: str
    at: datetime


class Balance(Mapping[str, StageBalance]):
    """The counters of each stage, at one instant. True if they add up for each stage: nothing is unaccounted for."""

    def __init__(self, stages: Mapping[str, StageBalance]) -> None:
        self._stages = stages

    def __getitem__(self, stage: str) -> StageBalance:
        return self._stages[stage]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)

    def __bool__(self) -> bool:
        return all(balance.adds_up for balance in self._stages.values())

    def __repr__(self) -> str:
        return f"Balance({dict(self._stages)})"


class ObservedState:
    """Looks at one pipeline."""

    def __init__(self, plan: Plan, broker: Broker, decoding: Decoding) -> None:
        self._plan = plan
        self._broker = broker
        self._decoding = decoding
        self.inspector = Inspector(plan, broker)

    async def waiting(self, stage: str | None = None) -> list[Waiting]:
        """What is accepted and not settled, by edge."""
        edges = [edge.name for edge in self._plan.edges if stage is None or edge.target == stage]
        _, sights = await Browser(self._broker).peek(edges, most=_MOST)
        queued = await self._queued()
        return [self._waiting(sight, queued) for sight in sights]

    async def _queued(self) -> dict[tuple[str, str], str]:
        """The pacing keys of the messages that queue for them, by edge and message id."""
        found: dict[tuple[str, str], str] = {}
        for stage in self._plan.consumers:
            if stage.rate is not None:
                for entry in await self._broker.answer(b"ZRANGE", self._broker.keys.queue(stage.name), 0, -1):
                    key, _, edge, name = text_in(entry).rsplit("\n", 3)
                    found[edge, name] = key
        return found

    def _waiting(self, sight: Sight, queued: Mapping[tuple[str, str], str]) -> Waiting:
        delivery, state, due = sight.delivery, sight.state.value, None
        header, stage = delivery.header, Edge.parse(delivery.edge).target
        message, key = self._decoding.message(delivery), queued.get((delivery.edge, header.message_id))
        if sight.state is State.DELAYED and key is not None:
            state = QUEUED  # what Redis stores as its time is only the latest one
        elif sight.state is State.DELAYED:
            due = datetime.fromtimestamp(sight.at_ms / 1000, UTC)
        return Waiting(stage, message, header.message_id, header.attempt, state, due, key or "")

    async def dead(self, stage: str | None = None) -> list[Dead]:
        """The dead letters, by stage, oldest first."""
        return [self._dead(letter) for letter in await self.inspector.dead_letters(stage, limit=_MOST)]

    def _dead(self, letter: DeadLetterRecord) -> Dead:
        header = letter.plain_header.encode()
        delivery = Delivery(Arrival(f">{letter.stage}", "", 0), b"0-1", header, letter.body)
        return Dead(
            letter.stage,
            self._decoding.message(delivery),
            letter.message_id,
            letter.reason,
            letter.error,
            letter.attempts,
            letter.traceback,
            letter.died_at,
        )

    async def held(self) -> Sequence[HeldKey]:
        """The pacing keys on hold."""
        return await self.inspector.held_keys()

    async def balance(self) -> Balance:
        """The counters of each stage."""
        return Balance(balance_of(self._plan, await self.inspector.snapshot()))
