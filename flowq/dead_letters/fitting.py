"""Checks that a fixed message fits its stage before it is sent there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.edge import inlet_of
from flowq.delivery.encoding.codec import check_size, decoder
from flowq.delivery.encoding.field_errors import FieldError, field_errors
from flowq.delivery.message import Header
from flowq.errors import CodecError, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.compilation.routing import Outlet
from flowq.graph.compilation.stage_types import StageTypes
from flowq.graph.compilation.typecheck import type_names

Edit = Callable[[DeadLetterRecord], bytes | None]
"""Returns the new body of a letter; None leaves it unchanged."""


class DoesNotFit(UsageError):
    """An edited message does not fit its stage. `fields` says what is wrong with which of its fields."""

    code = "FQ207"

    def __init__(self, message: str, *, hint: str, detail: str, fields: Sequence[FieldError]) -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.fields = fields


class Fitting:
    """Checks messages for one stage."""

    def __init__(self, plan: Plan, stage: str) -> None:
        self._stage = plan.stage(stage)
        if self._stage.is_source:
            raise UsageError(f'"{stage}" is a source: it accepts no messages', hint="name a stage after it")
        self._decode = decoder(self._stage.accepts)
        self._types = StageTypes(self._stage, plan)
        self._inlet = Outlet(plan, inlet_of(stage))

    def header_for(self, letter: DeadLetterRecord, body: bytes) -> Header:
        """The header with the type of `body`, as the stage would read it. Raises DoesNotFit."""
        stage, header = self._stage, letter.header
        try:
            check_size(body, stage.max_bytes, stage.name)
            if (named := self._types.decoder(header.type_tag)) is not None:
                named(body)
                return header
            tag = self._inlet.target_for(self._decode(body)).tag.decode()
        except CodecError as error:
            raise DoesNotFit(
                f"letter {letter.id}: it does not fit {stage.name}, which accepts {type_names(stage.accepted)}",
                detail="\n".join(error.detail.split("; ")) if error.detail else error.message,
                hint=error.hint or "nothing was changed",
                fields=field_errors(error),
            ) from None
        return replace(header, type_tag=tag)
