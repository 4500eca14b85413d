"""Selects dead letters: by stage, error, time, id and content."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from flowq.dead_letters.condition import Condition
from flowq.dead_letters.letter import DeadLetterRecord


@dataclass(frozen=True, slots=True)
class Selection:
    """A letter must meet all conditions; without any, every letter is selected.

    `error` is a glob over the line of a letter. `ids` are ids of letters or messages, or fingerprints. `since` is the
    earliest time of death. `where` looks into messages, so that bodies are read.

    `shown_as` is what the user sees of a line, and what `error` is compared with: where a part of it is masked, the
    letters that are found would tell what that part is.
    """

    stage: str | None = None
    error: str | None = None
    ids: Collection[str] = ()
    since: datetime | None = None
    where: tuple[Condition, ...] = ()
    limit: int | None = None
    shown_as: Callable[[str], str] = str

    @property
    def needs_bodies(self) -> bool:
        return bool(self.where)

    def includes(self, letter: DeadLetterRecord) -> bool:
        if self.since is not None and letter.died_at < self.since:
            return False
        if not self.matches(letter.line):
            return False
        if self.ids and not self.names(letter):
            return False
        if not self.where:
            return True
        message = letter.message
        return all(condition.holds(message) for condition in self.where)

    def matches(self, line: str) -> bool:
        """Whether a letter with this line may be selected."""
        return self.error is None or fnmatchcase(self.shown_as(line), self.error)

    def names(self, letter: DeadLetterRecord) -> set[str]:
        """Those `ids` that match a letter."""
        own = {letter.id, letter.message_id}
        if any(len(asked) == _FINGERPRINT_DIGITS for asked in self.ids):
            own.add(letter.fingerprint)
        return own & set(self.ids)


_FINGERPRINT_DIGITS = 8
