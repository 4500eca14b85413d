"""Actions on waiting messages: purge them, or push one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flowq.broker.audit import Act
from flowq.dashboard.actions.action import (
    Action,
    DoesNotRead,
    Number,
    OnStageOrAll,
    Scene,
    agreed,
    confirmed,
    target_command,
    unlocking,
)
from flowq.dead_letters.purging import Purging
from flowq.delivery.encoding.codec import decoder
from flowq.delivery.encoding.field_errors import field_errors
from flowq.errors import CodecError, UsageError
from flowq.graph.compilation.plan import EdgePlan, StagePlan
from flowq.graph.compilation.typecheck import type_names
from flowq.publisher import Publisher


class Purge(OnStageOrAll):
    """Removes waiting and delayed messages permanently: of a stage, or without one, of the pipeline."""

    name: ClassVar[str] = "purge"
    expected: Number = None
    confirm: str = ""

    def _edges(self, scene: Scene) -> Sequence[EdgePlan]:
        return [edge for edge in scene.watch.plan.edges if not self.stage or edge.target == self.stage]

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        purging, edges = Purging(scene.watch.broker), self._edges(scene)
        n = sum((await purging.idle(edges)).values())
        running = sum((await purging.idle(edges, running=True)).values())
        return {
            "n": f"{n:,}",
            "expected": n,
            "unlock": unlocking(scene, n),
            "stays": f"{running:,} running stay with their workers. Dead letters are kept.",
            "command": target_command(scene, "purge", self.stage),
        }

    async def perform(self, scene: Scene, act: Act) -> str:
        purging, edges = Purging(scene.watch.broker), self._edges(scene)
        there = await purging.idle(edges)
        confirmed(scene, self.confirm, agreed(self.expected, sum(there.values()), "message"))
        removed = await purging.purge(edges, there)
        act.n = sum(removed.values())
        return f"{act.n:,} removed from {self.stage or scene.name}"


class Push(Action):
    """Puts a message into a stage, once it fits."""

    name: ClassVar[str] = "push"
    stage: str
    message: str

    def words(self, scene: Scene) -> tuple[str, ...]:
        return (self._stage(scene).name,)

    def _stage(self, scene: Scene) -> StagePlan:
        stage = scene.watch.plan.stage(self.stage)
        if stage.is_source:
            raise UsageError(f'"{self.stage}" is a source: it accepts no messages')
        return stage

    def _value(self, scene: Scene) -> Any:
        stage = self._stage(scene)
        try:
            return decoder(stage.accepts)(self.message.encode())
        except CodecError as error:
            raise DoesNotRead(f"it does not fit {type_names(stage.accepted)}", field_errors(error)) from None

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        self._value(scene)
        command = target_command(scene, "push", self.stage, self.message)
        return {"fits": type_names(self._stage(scene).accepted), "command": command}

    async def perform(self, scene: Scene, act: Act) -> str:
        value = self._value(scene)
        async with Publisher(scene.watch.plan, settings=scene.settings) as publisher:
            pushed = await publisher.push(self.stage, value, wait=False)
        act.n = int(pushed.is_new)
        done = f"message {pushed} was pushed to {self.stage}"
        return done if pushed.is_new else f"{self.stage} has already seen this message"
