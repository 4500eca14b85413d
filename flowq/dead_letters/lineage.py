"""Where a message came from, what it led to, and where all of them are now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowq.broker.inspection.browse import Browser, Found, State
from flowq.broker.redis_streams import Broker
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.failed_attempts import Failure, failures_of
from flowq.graph.compilation.plan import Plan

_MOST_LETTERS = 100


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of a message and its family: all messages with the same root.

    `found` are those that still exist, by id. A settled message leaves no trace unless its stage keeps it: only its id
    is known, from its children. `letters` are the dead ones, by stage and entry id, at most a hundred of a stage.
    """

    message_id: str
    root_id: str
    found: Mapping[str, tuple[Found, ...]]
    letters: Mapping[tuple[str, str], DeadLetterRecord]

    @classmethod
    async def of(cls, plan: Plan, broker: Broker, message_id: str) -> Lineage:
        """Look for a message and its family in the whole pipeline.

        Reads the header of every message there is, a thousand at a time: a million take some seconds.
        """
        found = await _family(plan, broker, message_id)
        root_id = next((one.header.root_id for one in found), message_id)
        if root_id != message_id:
            found = await _family(plan, broker, root_id)
        by_id: dict[str, tuple[Found, ...]] = {}
        for one in found:
            by_id[one.header.message_id] = (*by_id.get(one.header.message_id, ()), one)
        return cls(message_id, root_id, by_id, await _letters(broker, found))

    @property
    def is_known(self) -> bool:
        """Whether there is any trace of such a message."""
        return self.message_id in self.ids()

    def ids(self) -> set[str]:
        """Every known message, including settled ones."""
        named = {self.root_id} if self.found else set[str]()
        for found in self.found.values():
            named |= {found[0].header.message_id, found[0].header.parent_id}
        return named - {"-"}

    def parent_of(self, message_id: str) -> str:
        """The id of its parent; the root if only the id of the message is known; "" for the root."""
        if message_id == self.root_id:
            return ""
        found = self.found.get(message_id)
        return found[0].header.parent_id if found else self.root_id

    def tree(self) -> Iterator[tuple[int, str, tuple[Found, ...]]]:
        """Depth, id and whereabouts of each message, parents before their children."""
        children: dict[str, list[str]] = {}
        for message_id in sorted(self.ids()):
            children.setdefault(self.parent_of(message_id), []).append(message_id)
        stack = [(0, message_id) for message_id in reversed(children.get("", []))]
        while stack:
            depth, message_id = stack.pop()
            yield depth, message_id, self.found.get(message_id, ())
            stack += [(depth + 1, child) for child in reversed(children.get(message_id, []))]

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, parents before their children."""
        return {
            "id": self.message_id,
            "root": self.root_id,
            "messages": [
                {
                    "id": message_id,
                    "parent": self.parent_of(message_id) or None,
                    "places": list(map(self._place, found)),
                }
                for _, message_id, found in self.tree()
            ],
        }

    def failures(self, found: Found) -> tuple[Failure, ...]:
        """The failed attempts of a message, the last of a dead one included."""
        letter = self.letters.get((found.place, found.entry_id))
        last = [Failure(letter.attempts, letter.attempts, letter.line, letter.place)] if letter else []
        return (*failures_of(found.header), *last)

    def _place(self, found: Found) -> dict[str, Any]:
        place = {"state": found.state, "place": found.place, "at_ms": found.at_ms, "worker": found.worker or None}
        failures = [failure._asdict() for failure in self.failures(found)]
        return {**place, "attempt": found.header.attempt, "failures": failures, "entry": found.entry_id or None}


async def _letters(broker: Broker, found: Sequence[Found]) -> dict[tuple[str, str], DeadLetterRecord]:
    letters: dict[tuple[str, str], DeadLetterRecord] = {}
    for stage in {one.place for one in found if one.state is State.DEAD}:
        ids = [one.entry_id for one in found if one.state is State.DEAD and one.place == stage]
        for entry in await StoredLetters(broker, stage).named(ids[:_MOST_LETTERS]):
            letters[stage, entry.entry_id] = DeadLetterRecord.read(stage, entry)
    return letters


async def _family(plan: Plan, broker: Broker, message_id: str) -> list[Found]:
    browser, keys = Browser(broker), broker.keys
    streams = [(keys.dead(stage.name), State.DEAD, stage.name) for stage in plan.consumers]
    streams += [(keys.kept(stage.name), State.DONE, stage.name) for stage in plan.consumers if stage.keep is not None]
    found = [one for edge in plan.edges async for one in browser.family_on_edge(edge.name, message_id)]
    for stream, state, stage in streams:
        found += [one async for one in browser.family_in(stream, message_id, state=state, stage=stage)]
    return found
