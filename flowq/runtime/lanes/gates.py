"""The slots of each stage, shared by all lanes of a process."""

from __future__ import annotations

from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.stage.gate import Gate


class Gates:
    """A gate for each stage: `concurrency` is for the process, however many shards it serves."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def of(self, stage: StagePlan) -> Gate:
        """The one of a stage."""
        if stage.name not in self._gates:
            self._gates[stage.name] = Gate(stage)
        return self._gates[stage.name]
