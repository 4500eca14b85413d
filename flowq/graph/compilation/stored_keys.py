"""Reads the keys of stored messages as their receiver does, so that their sender finds the same key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flowq.delivery.encoding.codec import decoder, value_of
from flowq.delivery.message import Arrival, Delivery
from flowq.delivery.settlement import Output
from flowq.errors import BodyElsewhere
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.stage_types import StageTypes

T = TypeVar("T")


class StoredKeys:
    """The keys of messages to one stage.

    What was encoded may differ from what the receiver decodes: a number that is read as text, a property that only the
    class of the receiver has. The sender therefore looks for the key where the receiver does.
    """

    def __init__(self, stage: StagePlan, plan: Plan) -> None:
        self._by = stage.rate.by if stage.rate else None
        self._decode_any = decoder(stage.accepts)
        self._types = StageTypes(stage, plan)

    def message(self, delivery: Delivery) -> Any:
        """The message, as far as it can be read without knowing its type tag. Raises DecodeError, BodyElsewhere."""
        decode = self._decode_any
        if b" t=" in delivery.header_bytes:
            decode = self._types.decoder(delivery.header.type_tag) or decode
        return decode(delivery.content)

    def sent(self, output: Output) -> Any:
        """The message as its receiver will read it. Raises as `message` does."""
        header = output.header
        if b" t=" not in header and b" e=" not in header:  # nearly all, and this is done for each message
            return self._decode_any(output.body)
        return self.message(Delivery(Arrival(output.edge, "", 0), b"0-1", header, output.body))

    def pacing_key(self, delivery: Delivery) -> str | None:
        """The key by which it is paced, "" for a rate without keys; None if it cannot be determined.

        Raises BodyElsewhere.
        """
        return self._pacing_key(self.message, delivery)

    def pacing_key_of_sent(self, output: Output) -> str | None:
        """The key by which its receiver will pace it: see `pacing_key`."""
        return self._pacing_key(self.sent, output)

    def _pacing_key(self, read: Callable[[T], Any], stored: T) -> str | None:
        if self._by is None:
            return ""
        try:
            # A line break separates the words of a queue.
            return str(value_of(read(stored), self._by)).replace("\n", " ")
        except BodyElsewhere:
            raise
        except (Exception, GeneratorExit, SystemExit):  # noqa: BLE001  (undecodable bytes, or the user's property)
            return None
