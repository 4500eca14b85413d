"""In which shard a dead letter would live, if it were a message again."""

from __future__ import annotations

from dataclasses import replace

from flowq.broker.redis_streams import Broker
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.edge import parse_address
from flowq.delivery.letter_ids import LetterId
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.errors import BodyElsewhere
from flowq.graph.compilation.placing import NOWHERE, Placing
from flowq.graph.compilation.plan import Plan


class Homes:
    """The shards of the letters of one pipeline; every letter is at home in a pipeline that has only one."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        n_shards = len(broker.shards)
        self._placing = Placing(replace(plan, shards=n_shards)) if n_shards > 1 else None

    def of(self, edge: str, header: Header, body: bytes) -> int | None:
        """The shard of a message, None if it is as well in any."""
        if self._placing is None:
            return None
        delivery = Delivery(Arrival(edge, "", 0), b"0-1", replace(header, packing="").encode(), body)
        try:
            placed, _ = self._placing.place_of(delivery, NOWHERE)
        except BodyElsewhere:
            return None
        return parse_address(placed)[0]

    def elsewhere(self, letter: DeadLetterRecord, edge: str, header: Header, body: bytes) -> int | None:
        """The shard of a letter with a new body, or for another stage; None if it is where it belongs."""
        home = self.of(edge, header, body)
        return None if home == LetterId.parse(letter.id).shard else home
