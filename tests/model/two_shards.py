"""Two shards that send to each other, and a replica of each that lags: every order of events, one failover among them.

What is modelled is what the design of many nodes rests on: outbox, cursor, gap check, epoch, the two rules of the
forwarder, and the decision that a run is drained. Each command is a step of its own: a process that dies is one whose
next step does not come. An entry that may be offered may arrive from then on at any time, several times, or never, so
that calls which are late, doubled or lost need no steps of their own.

Messages: "a" in the left shard sends "b" to the right one, which sends "c" back; "x" in the left one sends "y".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

Bug = Literal[
    "",
    "applies without a cursor",
    "applies behind a gap",
    "removes what the target may forget",
    "offers what the source may forget",
    "numbers without an epoch",
    "offers what it remembers of a forgotten history",
    "drained while outboxes are full",
    "drained by a look from before a failover",
]
Id = tuple[int, int]  # epoch, number


class Entry(NamedTuple):
    id: Id
    before: Id
    message: str


class Shard(NamedTuple):
    """What one server has in memory: all of it goes to the replica in one step, and a failover goes back to that."""

    queue: frozenset[str]
    done: frozenset[str] = frozenset()
    outbox: tuple[Entry, ...] = ()
    head: Id = (0, 0)
    cursor: Id = (0, 0)  # in the outbox of the other shard
    epoch: int = 0
    has_doubled: bool = False


class Look(NamedTuple):
    """What was seen of an idle shard."""

    head: Id
    cursor: Id


class State(NamedTuple):
    primaries: tuple[Shard, Shard]
    replicas: tuple[Shard, Shard]
    offered: tuple[frozenset[Entry], frozenset[Entry]]  # what may arrive in the other shard, now or later
    remembered: tuple[frozenset[Entry], frozenset[Entry]]  # by a forwarder, of what its source has forgotten
    is_reconnected: tuple[bool, bool]  # whether the next entry is the first over a new connection
    looks: tuple[Look | None, Look | None]
    n_failovers: int = 0


SENDS = {"a": "b", "x": "y", "b": "c", "y": None, "c": None}
ALL = (frozenset("axc"), frozenset("by"))
START = Shard(frozenset("ax")), Shard(frozenset())
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What all orders of events lead to: the number of states, how many of them are declared drained, what is wrong."""

    n_states: int
    n_drained: int
    wrong: str
    story: list[str]


def explore(bug: Bug = "", *, failovers: int = 1) -> Outcome:
    """Visit every state, or those before the first that is wrong."""
    nothing = frozenset[Entry](), frozenset[Entry]()
    first = State(START, START, nothing, nothing, (False, False), (None, None))
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    todo, n_drained = deque([first]), 0
    while todo:
        state = todo.popleft()
        n_drained += is_declared_drained(state, bug)
        is_over = True
        for name, is_progress, following in steps(state, bug, failovers):
            is_over &= not is_progress
            if following not in came_from:
                came_from[following] = state, name
                todo.append(following)
        if wrong := what_is_wrong(state, bug, is_over=is_over):
            return Outcome(len(came_from), n_drained, wrong, _story(came_from, state))
    return Outcome(len(came_from), n_drained, "", [])


def what_is_wrong(state: State, bug: Bug, *, is_over: bool) -> str:
    """What must never be: a message twice, one that is lost, a run that is declared drained early."""
    done = tuple(shard.done for shard in state.primaries)
    if any(shard.has_doubled for shard in state.primaries):
        return "doubled"
    if is_over and done != ALL:
        return "lost"
    return "drained early" if is_declared_drained(state, bug) and done != ALL else ""


def is_declared_drained(state: State, bug: Bug) -> bool:
    """Whether the looks, one at each shard, say that nothing is left: each head is applied at the other end."""
    left, right = state.looks
    if left is None or right is None:
        return False
    return bug == "drained while outboxes are full" or (left.head <= right.cursor and right.head <= left.cursor)


def steps(state: State, bug: Bug, failovers: int) -> Iterator[tuple[str, bool, State]]:
    """Everything that may happen next, and whether it brings the run forward."""
    for here, name in enumerate(("left", "right")):
        shard, replica = state.primaries[here], state.replicas[here]
        for message in sorted(shard.queue):
            yield f"{name} settles {message}", True, _settled(state, here, message, bug)
        for entry in sorted(state.offered[1 - here]):
            applied = _applied(shard, entry, bug)
            if applied != shard:
                comes_again = entry in state.primaries[1 - here].outbox  # however often a call is lost
                yield f"{entry.message} arrives {name}", comes_again, _with(state, here, applied)
        if shard.outbox and shard.outbox[0].id <= _forgets_not_below(state, 1 - here, bug):
            yield (
                f"{name} removes {shard.outbox[0].message}",
                True,
                _with(state, here, shard._replace(outbox=shard.outbox[1:])),
            )
        if replica != shard:
            yield f"the replica of {name} catches up", True, _replicated(state, here, bug)
        if state.n_failovers < failovers:
            yield f"{name} fails over", False, _failed_over(state, here, bug)
        if not shard.queue and (replica == shard or bug == "drained by a look from before a failover"):
            look = Look(shard.head, shard.cursor)
            if state.looks[here] != look:
                yield f"a look at {name}", False, state._replace(looks=_put(state.looks, here, look))


def _settled(state: State, here: int, message: str, bug: Bug) -> State:
    """One script: acknowledges, and puts what follows into the outbox. The first entry of a connection has an epoch."""
    shard, output = state.primaries[here], SENDS[message]
    shard = shard._replace(queue=shard.queue - {message}, done=shard.done | {message})
    if output is None:
        return _with(state, here, shard)
    epoch = shard.epoch or 1
    if state.is_reconnected[here] and bug != "numbers without an epoch":
        epoch = shard.epoch + 1 + state.n_failovers  # by the clock: higher than any that was forgotten
    entry_id = epoch, shard.head[1] + 1 if shard.head[0] == epoch else 1
    entry = Entry(entry_id, shard.head, output)
    state = state._replace(is_reconnected=_put(state.is_reconnected, here, False))
    state = _with(state, here, shard._replace(outbox=(*shard.outbox, entry), head=entry_id, epoch=epoch))
    if bug == "offers what the source may forget":
        return _offering(state, here, {entry})
    return state


def _applied(shard: Shard, entry: Entry, bug: Bug) -> Shard:
    if bug != "applies without a cursor":
        if entry.id <= shard.cursor:
            return shard
        if entry.before > shard.cursor and bug != "applies behind a gap":
            return shard
    if entry.message in shard.queue | shard.done:
        return shard._replace(has_doubled=True)
    return shard._replace(queue=shard.queue | {entry.message}, cursor=max(shard.cursor, entry.id))


def _forgets_not_below(state: State, here: int, bug: Bug) -> Id:
    """The second rule: removed is what the target's replica has applied."""
    return (state.primaries if bug == "removes what the target may forget" else state.replicas)[here].cursor


def _replicated(state: State, here: int, bug: Bug) -> State:
    """The first rule: from now on the forwarder may offer what the replica has.

    What it only remembers proves nothing, unless the confirmed head is of the same epoch and not below it.
    """
    shard = state.primaries[here]
    known = {
        entry
        for entry in state.remembered[here]
        if bug == "offers what it remembers of a forgotten history"
        or (entry.id[0] == shard.head[0] and entry.id <= shard.head)
    }
    state = state._replace(replicas=_put(state.replicas, here, shard))
    return _offering(state, here, known.union(shard.outbox))


def _failed_over(state: State, here: int, bug: Bug) -> State:
    """The replica takes over with what it has. A look at this shard counts no longer."""
    shard, replica = state.primaries[here], state.replicas[here]
    looks = state.looks if bug == "drained by a look from before a failover" else _put(state.looks, here, None)
    forgotten = state.remembered[here].union(shard.outbox).difference(replica.outbox)
    return _with(state, here, replica)._replace(
        remembered=_put(state.remembered, here, forgotten),
        is_reconnected=_put(state.is_reconnected, here, True),
        looks=looks,
        n_failovers=state.n_failovers + 1,
    )


def _offering(state: State, here: int, entries: Collection[Entry]) -> State:
    return state._replace(offered=_put(state.offered, here, state.offered[here].union(entries)))


def _with(state: State, here: int, shard: Shard) -> State:
    return state._replace(primaries=_put(state.primaries, here, shard))


def _put(pair: tuple[T, T], here: int, value: T) -> tuple[T, T]:
    return (pair[0], value) if here else (value, pair[1])


def _story(came_from: Mapping[State, tuple[State, str] | None], state: State) -> list[str]:
    story = list[str]()
    while (origin := came_from[state]) is not None:
        state, name = origin
        story.append(name)
    return story[::-1]
