"""Dead letters from the beginning: what a source has read and cannot become a message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from flowq.broker.publishing import Refused
from flowq.delivery.dead_letter import dead_letter_info
from flowq.delivery.message import Delivery, Header
from flowq.delivery.settlement import DeadLetter
from flowq.graph.emission import Emission
from flowq.graph.plan import StagePlan


class Refusals:
    """Makes the dead letters of one source. They lie with the stages that take what it gives."""

    def __init__(
        self, stage: StagePlan, emission: Emission, next_id: Callable[[], bytes], *, worker: str, run_id: str
    ) -> None:
        self._edges = stage.routes[0].edges if stage.routes else ()
        self._emission = emission
        self._next_id = next_id
        self._worker = worker
        self._run_id = run_id

    def of_bytes(self, body: bytes, error: Exception) -> list[Refused]:
        """For bytes that are not valid: one for each edge that takes what the source gives first."""
        return [self._refused(edge, body, "undecodable", error) for edge in self._edges]

    def of_value(self, value: Any, error: Exception) -> list[Refused]:
        """For a value that is too large: one for each edge that would have taken it."""
        targets = self._emission.targets_for(value)
        return [self._refused(target.edge, target.encode(value), "unencodable", error) for target in targets]

    def _refused(self, edge: str, body: bytes, reason: str, error: Exception) -> Refused:
        header = Header.entering(self._next_id().decode())
        entry_id = b"%d-0" % round(time.time() * 1000)  # it is as if it had died on arrival
        delivery = Delivery(edge, entry_id, header.encode(), body, self._worker, 0)
        info = dead_letter_info(DeadLetter(reason, error, header), delivery, self._run_id)
        return Refused(edge, header.encode(), body, orjson.dumps(info))
