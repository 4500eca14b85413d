"""Dead letters for what a source has read that cannot become a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import to_json

from flowq.broker.publishing import Refused
from flowq.delivery.dead_letter import dead_letter_info, writable
from flowq.delivery.edge import parse_address
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.settlement import DeadLetter, Output
from flowq.errors import PayloadTooLarge
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.compilation.routing import OutputRouter
from flowq.world import World

_LONGEST_SPELLED_OUT = 1_000_000
_LONGEST_PLACE = 500
LONGEST_BODY_SHOWN = 65_536


class Rejects:
    """Makes the dead letters of one source. They are stored with the stages that it feeds."""

    def __init__(
        self,
        stage: StagePlan,
        router: OutputRouter,
        next_id: Callable[[], bytes],
        *,
        worker: str,
        run_id: str,
        world: World,
    ) -> None:
        self._edges = stage.routes[0].edges if stage.routes else ()
        self._router = router
        self._next_id = next_id
        self._worker = worker
        self._run_id = run_id
        self._world = world

    def of_bytes(self, body: bytes, error: Exception, read_at: str) -> list[Refused]:
        """For invalid bytes: one for each edge that accepts the source's first type."""
        return [self._refused(edge, body, "undecodable", error, read_at) for edge in self._edges]

    def of_value(self, value: Any, error: Exception, read_at: str) -> list[Refused]:
        """For a value that cannot be sent: one for each edge that accepts its type, or else the source's first type."""
        if isinstance(error, PayloadTooLarge):
            targets = self._router.targets_for(value)
            return [
                self._refused(target.edge, target.encode(value), "unencodable", error, read_at) for target in targets
            ]
        body = spelled_out(value)
        return [self._refused(edge, body, "unencodable", error, read_at) for edge in self._edges_for(value)]

    def _edges_for(self, value: Any) -> Sequence[str]:
        try:
            return [target.edge for target in self._router.targets_for(value)]
        except Exception:  # noqa: BLE001  (that may be why it is refused)
            return self._edges

    def _refused(self, edge: str, body: bytes, reason: str, error: Exception, read_at: str) -> Refused:
        header = Header.entering(self._next_id().decode())
        entry_id = b"%d-0" % round(self._world.time() * 1000)  # as if it had died on arrival
        delivery = Delivery(Arrival(edge, self._worker, 0), entry_id, header.encode(), body)
        info = dead_letter_info(DeadLetter(reason, error, header), delivery, self._run_id)
        read_at = writable(read_at[:_LONGEST_PLACE])
        return Refused(edge, header.encode(), body, orjson.dumps({**info, "read_at": read_at}))


def uncommittable(entry: Output | Refused, error: Exception, *, worker: str, run_id: str, world: World) -> Refused:
    """For a message that is too large for Redis: with the beginning of its body, which is all that can be stored."""
    header = Header.decode(entry.header)
    too_large = ValueError(f"{len(entry.body):,} bytes are more than Redis accepts; only their beginning is kept here")
    too_large.__cause__ = error
    entry_id, edge = b"%d-0" % round(world.time() * 1000), parse_address(entry.edge).edge
    delivery = Delivery(Arrival(edge, worker, 0), entry_id, entry.header, entry.body)
    info = dead_letter_info(DeadLetter("uncommittable", too_large, header), delivery, run_id)
    return Refused(edge, entry.header, entry.body[:LONGEST_BODY_SHOWN], orjson.dumps(info))


def spelled_out(value: Any) -> bytes:
    """A readable form of a value that cannot be written as its type: JSON if possible.

    >>> spelled_out({"n": float("inf"), "head": bytes([255])})
    b'{"n":"Infinity","head":"_w=="}'
    """
    try:
        # Dumped first: to_json would use the serializer of the model, which is what has failed.
        plain = value.model_dump(warnings=False) if isinstance(value, BaseModel) else value
        body = to_json(plain, bytes_mode="base64", inf_nan_mode="strings", fallback=repr)
    except Exception:  # noqa: BLE001  (half a surrogate pair, a cycle, a property that fails)
        try:
            body = repr(value).encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001  (the user's __repr__)
            body = f"a {type(value).__name__}".encode()
    return body[:_LONGEST_SPELLED_OUT]
