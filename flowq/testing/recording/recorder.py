"""Takes down what a pipeline was fed and what its stages have made of it, with secrets masked."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from flowq.delivery.encoding.codec import is_raw
from flowq.errors import DecodeError, EncodeError, UsageError
from flowq.graph.compilation.plan import Plan
from flowq.testing.alone.lone_stage import LoneStage, Written
from flowq.testing.recording.masking import Masking
from flowq.testing.recording.recording_file import Record, Recording, line_of, written_in


class Recorder:
    """Takes down one run of a pipeline. Messages are typed values; what cannot be encoded is left out.

    The order in which stages handle their messages is left out as well: it depends on the seed.
    """

    def __init__(self, plan: Plan, mask: Sequence[str] = ()) -> None:
        self._plan = plan
        self._masking = Masking(mask)
        self._stages: dict[str, LoneStage] = {}
        self._fed: list[Record] = []
        self._lines: dict[str, list[str]] = {stage.name: [] for stage in plan.stages}

    def fed(self, stage: str, message: Any) -> None:
        """A message has entered the pipeline. Raises UsageError if its stage could not read it any more once masked."""
        if (record := self._accepted(stage, message)) is None:
            return
        try:
            self._stage(stage).read(written_in(record))
        except DecodeError as error:
            raise UsageError(
                f"a masked message does not fit {stage}: {error.detail or error.message}",
                hint="mask fields that may have any text or number",
            ) from None
        self._fed.append({"fed": stage, **record})

    def handled(self, stage: str, message: Any, outputs: Sequence[Any]) -> None:
        """A stage has handled a message, and returned or emitted these.

        Which messages of a batch stage came together depends on the seed, and is left out.
        """
        if (record := self._accepted(stage, message)) is None:
            return
        taken = (self._output(stage, output) for output in outputs)
        returned = [output for output in taken if output is not None]
        lines = [{"stage": stage, **record, "returned": returned}]
        if self._plan.stage(stage).batch:
            lines = [{"stage": stage, **record}, *({"stage": stage, "returned": [output]} for output in returned)]
        self._lines[stage] += map(line_of, lines)

    def died(self, stage: str, message: Any, error: str) -> None:
        """A message has become a dead letter."""
        if (record := self._accepted(stage, message)) is not None:
            self._lines[stage].append(line_of({"stage": stage, **record, "died": error}))

    def recording(self, seed: int) -> Recording:
        """All of it: stages in the order of the plan, and the messages of each sorted."""
        lines = [line for stage in self._lines.values() for line in sorted(stage)]
        return Recording(self._fed, lines, mask=self._masking.patterns, seed=seed)

    def _accepted(self, stage: str, message: Any) -> Record | None:
        lone = self._stage(stage)
        try:
            return self._record(lone.write(message), lone.stage.accepted)
        except EncodeError:
            return None

    def _output(self, stage: str, value: Any) -> Record | None:
        try:
            (written,) = self._stage(stage).write_outputs([value])
            return self._record(written, self._stage(stage).stage.emits)
        except EncodeError:  # sent by `ctx.emit`, to a stage that accepts it
            accepting = (self._accepted(each.name, value) for each in self._plan.consumers)
            return next((record for record in accepting if record is not None), None)

    def _record(self, written: Written, types: Sequence[Any]) -> Record:
        record = {"type": written.tag} if written.tag else {}
        if any(is_raw(type_) for type_ in types) and written.tag in ("", "bytes"):
            return {**record, "body_base64": b64encode(written.body).decode()}
        return {**record, "message": self._masking.masked(json.loads(written.body))}

    def _stage(self, name: str) -> LoneStage:
        if name not in self._stages:
            self._stages[name] = LoneStage.of(name, self._plan)
        return self._stages[name]
