"""Where a message came from, what it led to, and where all of them are now."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowq.broker.inspection.browse import State
from flowq.broker.inspection.family import FamilySearch, Found
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import SilentShard
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.letters_of_shards import stored_letters
from flowq.delivery.failed_attempts import Attempt, Failure, attempts_of, failures_of
from flowq.graph.compilation.plan import Plan

_MOST_LETTERS = 100
_MOST_ROWS, _MOST_CHILDREN = 200, 20
_ORDER = (State.DEAD, State.RUNNING, State.DELAYED, State.WAITING, State.IN_TRANSIT, State.DONE)


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of a tree that was cut to a readable size.

    It is a message and where it is, or else the number of messages left out at this place, `n_hidden`, with how many of
    them are in each state; a settled message that left no trace is in none.
    """

    depth: int
    message_id: str = ""
    places: tuple[Found, ...] = ()
    n_hidden: int = 0
    hidden: Mapping[State, int] = field(default_factory=dict[State, int])


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of a message and its family: all messages with the same root.

    `found` are those that still exist, by id. A settled message leaves no trace unless its stage keeps it: only its id
    is known, from its children. `letters` are the dead ones, by stage and entry id, at most a hundred of a stage.
    `looked_at` of `total` messages were searched; `is_complete`: the search has ended. `left_out` counts the members
    beyond the first 50,000, `silent` are the shards that were not searched, because they did not answer.
    """

    message_id: str
    root_id: str
    found: Mapping[str, tuple[Found, ...]]
    letters: Mapping[tuple[str, str], DeadLetterRecord]

    looked_at: int
    total: int
    is_complete: bool
    left_out: int
    silent: Sequence[SilentShard] = ()

    @classmethod
    async def of(cls, plan: Plan, broker: Broker, message_id: str) -> Lineage:
        """Look for a message and its family in the whole pipeline.

        Reads the header of every message there is, a thousand at a time: a million take some seconds.
        """
        search = FamilySearch(plan, broker, message_id)
        while not search.is_complete:
            await search.step()
        return await cls.of_search(search, broker)

    @classmethod
    async def of_search(cls, search: FamilySearch, broker: Broker) -> Lineage:
        """What a search has found so far."""
        by_id: dict[str, tuple[Found, ...]] = {}
        for one in search.found:
            by_id[one.message_id] = (*by_id.get(one.message_id, ()), one)
        return cls(
            search.message_id,
            search.root_id or search.message_id,
            by_id,
            await _letters(broker, search.found),
            search.looked_at,
            search.total,
            search.is_complete,
            search.left_out,
            search.silent,
        )

    @property
    def is_known(self) -> bool:
        """Whether there is any trace of such a message."""
        return self.message_id in self.ids()

    def ids(self) -> set[str]:
        """Every known message, including settled ones."""
        named = {self.root_id} if self.found else set[str]()
        for found in self.found.values():
            named |= {found[0].message_id, found[0].parent_id}
        return named - {"-"}

    def parent_of(self, message_id: str) -> str:
        """The id of its parent; the root if only the id of the message is known; "" for the root."""
        if message_id == self.root_id:
            return ""
        found = self.found.get(message_id)
        return found[0].parent_id if found else self.root_id

    def tree(self) -> Iterator[tuple[int, str, tuple[Found, ...]]]:
        """Depth, id and whereabouts of each message, parents before their children."""
        children = self._children()
        stack = [(0, message_id) for message_id in reversed(children.get("", ()))]
        while stack:
            depth, message_id = stack.pop()
            yield depth, message_id, self.found.get(message_id, ())
            stack += [(depth + 1, child) for child in reversed(children.get(message_id, ()))]

    def rows(self) -> list[TreeRow]:
        """The tree, cut to about 200 messages and 20 children of each: first those on the way to the message that was
        asked for, then dead, running, delayed and waiting ones. The last row below a message says what was left out.
        """
        children, rows = self._children(), list[TreeRow]()
        shown = self._shown(children)
        stack = [(0, one, False) for one in reversed(children.get("", ()))]
        while stack:
            depth, one, is_rest = stack.pop()
            if is_rest:
                left_out = [each for child in children[one] if child not in shown for each in _below(child, children)]
                states = Counter(self.found[each][0].state for each in left_out if each in self.found)
                rows.append(TreeRow(depth, n_hidden=len(left_out), hidden=states))
                continue
            rows.append(TreeRow(depth, one, self.found.get(one, ())))
            own = [child for child in children.get(one, ()) if child in shown]
            if len(own) < len(children.get(one, ())):
                stack.append((depth + 1, one, True))
            stack += [(depth + 1, child, False) for child in reversed(own)]
        return rows

    def _children(self) -> dict[str, list[str]]:
        """The ids of the children of each message, and under "" the root."""
        children: dict[str, list[str]] = {}
        parents = {message_id: found[0].parent_id for message_id, found in self.found.items()}
        for message_id in sorted({*parents, *parents.values(), *([self.root_id] if parents else ())} - {"-"}):
            parent = "" if message_id == self.root_id else parents.get(message_id, self.root_id)
            children.setdefault(parent, []).append(message_id)
        return children

    def _shown(self, children: Mapping[str, Sequence[str]]) -> set[str]:
        shown: set[str] = set()
        one = self.message_id
        while one and one not in shown:
            shown.add(one)
            one = self.parent_of(one)
        way, next_ones = frozenset(shown), deque(children.get("", ()))

        def importance(child: str) -> tuple[bool, int]:
            found = self.found.get(child)
            return child not in way, _ORDER.index(found[0].state) if found else len(_ORDER)

        while next_ones and len(shown) < _MOST_ROWS:
            shown.add(one := next_ones.popleft())
            next_ones += sorted(children.get(one, ()), key=importance)[:_MOST_CHILDREN]
        return shown

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON, parents before their children."""
        return {
            "id": self.message_id,
            "root": self.root_id,
            "looked_at": self.looked_at,
            "total": self.total,
            "is_complete": self.is_complete,
            "left_out": self.left_out,
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

    def attempts(self, found: Found) -> tuple[Attempt, ...]:
        """The same, each with its time if that is known."""
        letter = self.letters.get((found.place, found.entry_id))
        return letter.each_attempt if letter else attempts_of(found.header)

    def _place(self, found: Found) -> dict[str, Any]:
        place = {"state": found.state, "place": found.place, "at_ms": found.at_ms, "worker": found.worker or None}
        failures = [failure._asdict() for failure in self.failures(found)]
        attempts = [attempt._asdict() for attempt in self.attempts(found)]
        place |= {"appended_ms": found.appended_ms or None, "started_ms": found.started_ms or None}
        tried = {"attempt": found.header.attempt, "failures": failures, "each_attempt": attempts}
        where = {} if found.shard is None else {"shard": found.shard}
        return {**place, **where, **tried, "entry": found.entry_id or None}


def _below(message_id: str, children: Mapping[str, Sequence[str]]) -> list[str]:
    """A message and all its descendants."""
    found = [message_id]
    for one in found:
        found += children.get(one, ())
    return found


async def _letters(broker: Broker, found: Sequence[Found]) -> dict[tuple[str, str], DeadLetterRecord]:
    letters: dict[tuple[str, str], DeadLetterRecord] = {}
    for stage in {one.place for one in found if one.state is State.DEAD}:
        ids = [one.entry_id for one in found if one.state is State.DEAD and one.place == stage]
        for entry in await stored_letters(broker, stage).named(ids[:_MOST_LETTERS], bodies=False):
            letters[stage, entry.entry_id] = DeadLetterRecord.read(stage, entry)
    return letters
