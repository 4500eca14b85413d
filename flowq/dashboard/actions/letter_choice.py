"""Which dead letters an action is about: one, a kind, or those that the filters of the page select."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from pydantic import Field, Json

from flowq.dashboard.access.shown_conditions import conditions_in
from flowq.dashboard.access.shown_fields import masked_text
from flowq.dashboard.actions.action import Action, Number, Scene
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.selection import Selection
from flowq.delivery.letter_ids import is_letter_id
from flowq.durations import seconds
from flowq.errors import UsageError
from flowq.wording.shell_commands import selection_words, shell_command


class OfLetters(Action):
    """An action on dead letters. `expected`: the number that the user was shown."""

    page: ClassVar[str] = "dead"
    letter: str = ""
    kind: str = ""
    stage: str = ""
    error: str = ""
    since: str = ""
    where: Json[list[str]] = Field(default_factory=list[str])
    expected: Number = None

    def words(self, scene: Scene) -> tuple[str, ...]:
        return selection_words(self.selection(scene), self.since)

    def command(self, scene: Scene, verb: str, *words: str) -> str:
        """The command that does the same in a terminal."""
        return shell_command("flowq", "dlq", verb, scene.name, *self.words(scene), *words)

    def selection(self, scene: Scene) -> Selection:
        """The selected letters. Raises UsageError or NotFound for an invalid selection.

        A field that is not shown cannot be selected by either: the number would reveal its values.
        """
        if self.letter and not (is_letter_id(self.letter) and self.stage):
            raise UsageError(f'"{self.letter}" is not the id of a letter')
        conditions = conditions_in(self.where, scene.shown)
        stage = scene.watch.plan.stage(self.stage).name if self.stage else None
        ids = [each for each in (self.letter or self.kind,) if each]
        return Selection(stage, self.error or None, ids, self._earliest(), conditions, shown_as=masked_text)

    def _earliest(self) -> datetime | None:
        if not self.since:
            return None
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds(self.since))
        except (ValueError, OverflowError) as error:
            raise UsageError(f"since: {error}") from None


def letters_of(scene: Scene) -> DeadLetters:
    """The dead letters of the pipeline."""
    return DeadLetters(scene.watch.plan, scene.watch.broker)
