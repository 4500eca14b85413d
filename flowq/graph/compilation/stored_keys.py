"""Reads the keys of stored messages as their receiver does, so that their sender finds the same key."""

from __future__ import annotations

from typing import Any

from flowq.delivery.encoding.codec import decoder, value_of
from flowq.delivery.message import Delivery
from flowq.errors import BodyElsewhere
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.stage_types import StageTypes


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

    def pacing_key(self, delivery: Delivery) -> str | None:
        """The key by which it is paced, "" for a rate without keys; None if it cannot be determined.

        Raises BodyElsewhere.
        """
        if self._by is None:
            return ""
        try:
            # A line break separates the words of a queue.
            return str(value_of(self.message(delivery), self._by)).replace("\n", " ")
        except BodyElsewhere:
            raise
        except (Exception, GeneratorExit, SystemExit):  # noqa: BLE001  (undecodable bytes, or the user's property)
            return None
