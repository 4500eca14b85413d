"""Actions that pause and resume a pipeline, a stage, or one pacing key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flowq.broker.audit import Act
from flowq.broker.records import WHOLE
from flowq.dashboard.actions.action import Action, OnStageOrAll, Scene, target_command
from flowq.errors import UsageError
from flowq.wording.quantities import counted


class Pause(OnStageOrAll):
    """Nothing new starts until it is resumed."""

    name: ClassVar[str] = "pause"

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        (*stage,) = self.words(scene)
        balances = await scene.watch.inspector.balance()
        running = sum(balances[name].running for name in stage or balances)
        return {"n": f"{running:,}", "command": target_command(scene, "pause", self.stage)}

    async def perform(self, scene: Scene, act: Act) -> str:
        is_new = await scene.watch.inspector.pause(self.stage or None)
        return f"{_named(scene, self.stage)} {'is' if is_new else 'was already'} paused"


class Resume(OnStageOrAll):
    """Ends a pause; of a pipeline, all its pauses except those of keys."""

    name: ClassVar[str] = "resume"

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        return {"command": target_command(scene, "resume", self.stage)}

    async def perform(self, scene: Scene, act: Act) -> str:
        inspector = scene.watch.inspector
        was_paused = await inspector.resume(self.stage or None)
        if self.stage and WHOLE in await inspector.paused():
            return f"all of {scene.name} is still paused"
        return f"{_named(scene, self.stage)} {'is resumed' if was_paused else 'was not paused'}"


class _OfKey(Action):
    """An action on one pacing key of a stage; "" where all its messages have the same key."""

    stage: str
    key: str

    def words(self, scene: Scene) -> tuple[str, ...]:
        stage = scene.watch.plan.stage(self.stage)
        if stage.rate is None:
            raise UsageError(f"{self.stage} has no rate, and no pacing keys")
        field = stage.rate.by if isinstance(stage.rate.by, str) else "key"
        return (self.stage, *(("--key", f"{field}={self.key}") if stage.rate.by else ()))

    def _what(self) -> str:
        return f"{self.key} in {self.stage}" if self.key else self.stage

    async def _waiting(self, scene: Scene) -> int:
        held = await scene.watch.inspector.held_keys()
        return sum(one.waiting for one in held if (one.stage, one.key) == (self.stage, self.key))

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        stage, *words = self.words(scene)
        n = await self._waiting(scene)
        command = target_command(scene, type(self).name, stage, *words)
        return {"n": f"{n:,}", "text": f"{counted(n, 'message')} {'wait' if n != 1 else 'waits'}", "command": command}


class PauseKey(_OfKey):
    """No message of the key starts until it is released."""

    name: ClassVar[str] = "pause"

    async def perform(self, scene: Scene, act: Act) -> str:
        await scene.watch.inspector.pause_key(self.stage, self.key)
        return f"{self._what()} is paused"


class Release(_OfKey):
    """Ends the hold of a key, whatever caused it."""

    name: ClassVar[str] = "resume"

    async def perform(self, scene: Scene, act: Act) -> str:
        act.n = await self._waiting(scene)
        was_held = await scene.watch.inspector.resume_key(self.stage, self.key)
        return f"{self._what()} {'is released' if was_held else 'was not on hold'}"


def _named(scene: Scene, stage: str) -> str:
    return stage or f"all of {scene.name}"
