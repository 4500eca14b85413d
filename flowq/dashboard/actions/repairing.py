"""Actions on dead letters: put them back, changed or not, or remove them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import BeforeValidator

from flowq.broker.audit import Act
from flowq.dashboard.access.shown_fields import with_masked_parts
from flowq.dashboard.actions.action import DoesNotRead, NumberChanged, Scene, agreed, confirmed, unlocking
from flowq.dashboard.actions.letter_choice import OfLetters, letters_of
from flowq.dashboard.actions.message_changes import assignments, changes
from flowq.dead_letters.fitting import DoesNotFit, Fitting
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.letters_of_shards import stored_letters
from flowq.errors import UsageError
from flowq.graph.compilation.typecheck import type_names
from flowq.wording.quantities import counted

_MANY, _GENTLE_PER_SECOND = 200, 20
_COUNT_SECONDS = 10.0
_FASTEST = 1e6

PerSecond = Annotated[float, BeforeValidator(lambda value: value or 0)]
"""How many become due in a second; 0 for all at once. Fields of forms are texts."""


class Retry(OfLetters):
    """Puts letters back, unchanged, at most `rate` per second."""

    name: ClassVar[str] = "retry"
    rate: PerSecond = 0
    to: str = ""

    def _options(self) -> tuple[str, ...]:
        rate = ("--rate", f"{self.rate:g}") if self.rate else ()
        return (*(("--to", self.to) if self.to else ()), *rate)

    def words(self, scene: Scene) -> tuple[str, ...]:
        return (*super().words(scene), *self._options())

    async def _count(self, scene: Scene) -> Mapping[str, int]:
        if not 0 <= self.rate < _FASTEST:
            raise UsageError("a rate is a number of letters per second, 0 for all at once")
        put_back = letters_of(scene).put_back(self.selection(scene), to=self.to or None, dry_run=True)
        return await _in_time(put_back)

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        counts = await self._count(scene)
        n = sum(counts.values())
        stages = ", ".join(stage for stage, number in counts.items() if number)
        return {
            "n": f"{n:,}",
            "expected": n,
            "text": f"{'letter goes' if n == 1 else 'letters go'} back to {stages}" if n else "letters match",
            "command": self.command(scene, "retry"),
            "propose": _GENTLE_PER_SECOND if n > _MANY else 0,
            "gentle": self.command(scene, "retry", "--rate", str(_GENTLE_PER_SECOND)),
        }

    async def perform(self, scene: Scene, act: Act) -> str:
        n = agreed(self.expected, sum((await self._count(scene)).values()), "letter")
        selection = replace(self.selection(scene), limit=n)
        counts = await letters_of(scene).put_back(selection, to=self.to or None, per_second=self.rate or None)
        act.n = sum(counts.values())
        return f"{counted(act.n, 'message')} put back to {', '.join(counts) or self.to or self.stage or scene.name}"


class Remove(OfLetters):
    """Removes letters permanently."""

    name: ClassVar[str] = "remove"
    confirm: str = ""

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        n = sum((await _in_time(letters_of(scene).remove(self.selection(scene), dry_run=True))).values())
        unlock = unlocking(scene, n)
        return {"n": f"{n:,}", "expected": n, "unlock": unlock, "command": self.command(scene, "rm")}

    async def perform(self, scene: Scene, act: Act) -> str:
        there = sum((await _in_time(letters_of(scene).remove(self.selection(scene), dry_run=True))).values())
        confirmed(scene, self.confirm, n := agreed(self.expected, there, "letter"))
        removed = await letters_of(scene).remove(replace(self.selection(scene), limit=n))
        act.n = sum(removed.values())
        return f"{counted(act.n, 'dead letter')} removed"


class EditAndRetry(OfLetters):
    """Puts one letter back with another message, which must fit its stage. Its id stays."""

    name: ClassVar[str] = "edit"
    message: str

    async def _read(self, scene: Scene) -> tuple[DeadLetterRecord, bytes]:
        """The letter, and its new body: masks in the message stand for the old values."""
        found = await stored_letters(scene.watch.broker, self.stage).named([self.letter])
        if not found:
            raise NumberChanged("the letter is gone: it was put back or removed", 0)
        letter = DeadLetterRecord.read(self.stage, found[0])
        letter.needs_body()
        try:
            edited = orjson.loads(self.message)
        except orjson.JSONDecodeError as error:
            raise DoesNotRead(f"not JSON: {error}", [("", f"not JSON: {error}")]) from None
        try:
            return letter, orjson.dumps(with_masked_parts(edited, letter.message, scene.shown))
        except ValueError as error:
            raise DoesNotRead("this mask hides no value", [(str(error), "this mask hides no value")]) from None

    async def preview(self, scene: Scene) -> Mapping[str, Any]:
        letter, body = await self._read(scene)
        shown, edited = scene.shown.of(letter.message), orjson.loads(self.message)
        assigned = assignments(shown, edited)
        options = ["--edit"] if assigned is None else [word for each in assigned for word in ("--set", each)]
        plan = scene.watch.plan
        values = {"changes": changes(shown, edited), "command": self.command(scene, "retry", *options)}
        try:
            Fitting(plan, self.stage).header_for(letter, body)
        except DoesNotFit as error:
            return {**values, "error": error.message, "errors": [each._asdict() for each in error.fields]}
        return {**values, "fits": type_names(plan.stage(self.stage).accepted)}

    async def perform(self, scene: Scene, act: Act) -> str:
        letter, body = await self._read(scene)
        try:
            fixed = await letters_of(scene).fix(self.stage, {letter.id: body}, and_put_back=True)
        except DoesNotFit as error:
            raise DoesNotRead(error.message, error.fields) from None
        act.n = fixed.n
        if not fixed.n:
            raise NumberChanged("the letter is gone: it was put back or removed", 0)
        return f"1 message put back to {self.stage}, {'unchanged' if fixed.unchanged else 'changed'}"


async def _in_time(count: Coroutine[Any, Any, Mapping[str, int]]) -> Mapping[str, int]:
    """What a count returns. Raises UsageError if it takes too long for a page."""
    try:
        async with asyncio.timeout(_COUNT_SECONDS):
            return await count
    except TimeoutError:
        raise UsageError("there are too many letters to count here", hint="use the command in a terminal") from None
