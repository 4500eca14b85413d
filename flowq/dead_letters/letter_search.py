"""Searches the messages of dead letters, the newest first, some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from flowq.broker.inspection.merging.snapshots import numbers_of_letters
from flowq.broker.records import DeadEntry
from flowq.broker.redis_streams import Broker
from flowq.dead_letters.letter import content_of, json_or
from flowq.dead_letters.letter_kinds import EntryId, LetterKinds, Told, died_ms_in, entry_id_in, id_of_letter, line_in
from flowq.dead_letters.letters_of_shards import stored_letters
from flowq.dead_letters.selection import Selection
from flowq.delivery.message import Header
from flowq.graph.compilation.plan import Plan
from flowq.large_bodies.reference import is_claimed

_PER_CALL = 100
_MOST_FOUND = 2000


class LetterSearch:
    """A search for dead letters by stage, error, time and content; `ids` and `limit` of a selection do not count.

    It starts with the newest letters, and ends when it has searched all that there were when it began. It keeps the
    first 2,000 that it finds; `left_out` counts the others. `unread` counts those that it could not search, because
    their messages are larger than a megabyte or in the claim store.

    Methods raise BrokerUnavailable when Redis does not answer; the search can then continue.

    >>> import asyncio
    >>> from flowq import Pipeline, stage
    >>> from flowq.broker.open import open_broker
    >>> from flowq.dead_letters.condition import Condition
    >>> from flowq.settings import Settings
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> async def main() -> None:
    ...     selection = Selection(where=(Condition.parse("name=Ann"),))
    ...     async with open_broker("greetings", Settings.of_program(redis="memory")) as broker:
    ...         search = LetterSearch(Pipeline("greetings", greet).plan, selection)
    ...         while not search.is_complete:
    ...             await search.step(broker)
    ...     print(f"searched {search.looked_at} of {search.total}:", search.matching().kinds())
    >>> asyncio.run(main())
    searched 0 of 0: []
    """

    def __init__(self, plan: Plan, selection: Selection) -> None:
        stage = None if selection.stage is None else plan.stage(selection.stage).name
        self._stages = [each.name for each in plan.consumers if stage in (None, each.name)]
        self._since_ms = selection.since.timestamp() * 1000 if selection.since else 0
        self._selection = selection
        self._before: dict[str, str] = {}  # the stages still to be searched, and the id reached in each
        self._found: list[tuple[EntryId, str, int, Told]] = []
        self._matching: LetterKinds | None = None
        self._has_begun = False
        self._looked_at = self.total = self.unread = self.left_out = 0

    @property
    def looked_at(self) -> int:
        """How many of `total` letters were searched."""
        return min(self._looked_at, self.total)

    @property
    def is_complete(self) -> bool:
        return self._has_begun and not self._before

    async def step(self, broker: Broker) -> None:
        """Look at the next letters: at most a hundred, or a megabyte of them."""
        if not self._has_begun:
            there_now = await numbers_of_letters(broker, self._stages)
            self.total = sum(there_now.values())
            self._before = {stage: "" for stage, n in there_now.items() if n}
            self._has_begun = True
        if self._before:
            stage = max(self._before, key=self._newest)
            entries, is_all = await stored_letters(broker, stage).before(self._before[stage], limit=_PER_CALL)
            self._look_at(stage, entries)
            if is_all:
                del self._before[stage]
            else:
                self._before[stage] = entries[-1].entry_id

    def _newest(self, stage: str) -> tuple[bool, EntryId]:
        before = self._before[stage]
        return not before, entry_id_in(before or "0-0")

    def matching(self) -> LetterKinds:
        """The letters found so far."""
        if self._matching is None:
            self._matching = LetterKinds(self._stages)
            for at, stage, died_ms, told in sorted(self._found):
                self._matching.add(stage, id_of_letter(at), died_ms, told)
        return self._matching

    def _look_at(self, stage: str, entries: Sequence[DeadEntry]) -> None:
        self._matching = None
        self._looked_at += len(entries)
        for entry in entries:
            died_ms = died_ms_in(entry.entry_id, entry.info)
            if died_ms < self._since_ms or not self._selection.matches(line_in(entry.info)):
                continue
            if self._selection.where and not self._holds(entry):
                continue
            if len(self._found) < _MOST_FOUND:
                told = Told.of(entry.info, self._selection.shown_as)
                self._found.append((entry_id_in(entry.entry_id), stage, died_ms, told))
            else:
                self.left_out += 1

    def _holds(self, entry: DeadEntry) -> bool:
        if not entry.body or (is_claimed(entry.header) and not entry.is_edited):
            self.unread += 1
            return False
        body = entry.body
        if b" e=" in entry.header and not entry.is_edited:
            with suppress(ValueError):
                body = content_of(Header.decode(entry.header), body)
        message = json_or(None, body)
        return all(condition.holds(message) for condition in self._selection.where)
