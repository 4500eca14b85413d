"""A family of messages as its page shows it: the tree, and a lane of time for each message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flowq.broker.inspection.browse import Found, State
from flowq.dashboard.access.shown_fields import masked_text
from flowq.dashboard.pages.times import time_at
from flowq.dashboard.pages.trace_lanes import Lane, Span, lane_of, spans_of
from flowq.dead_letters.lineage import Lineage
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan

MOST_CHILDREN = 100  # of the chosen message
_MOST_OTHERS, _DEEPEST = 8, 40  # relatives beside its ancestors and children
_INDENT, _HEIGHT = 16, 32
_LOOKS: Mapping[State, tuple[str, str]] = {
    State.WAITING: ("busy", "late"),
    State.RUNNING: ("reading", "live"),
    State.DELAYED: ("paced", "late"),
    State.DEAD: ("dead", "died"),
    State.DONE: ("done", "solid"),
}
"""The state whose icon and colour a message has, and the dot that it is in the tree."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A message, or how many children of one are left out: `more` then says how many.

    `paths` and `dot` draw its place in the tree.
    """

    message_id: str
    depth: int
    paths: Sequence[str]
    more: str = ""
    dot: str = ""
    state: str = ""
    stage: str = ""
    where: str = ""
    tale: str = ""
    letter_id: str = ""
    kind: str = ""
    lane: Lane | None = None
    is_here: bool = False

    @property
    def dot_x(self) -> int:
        return 7 + _INDENT * self.depth

    @property
    def width(self) -> int:
        return self.dot_x + 7


@dataclass(frozen=True, slots=True)
class Branch:
    """A message in the tree; `ends` says of it and each of its ancestors whether it is drawn as the last child."""

    message_id: str
    ends: tuple[bool, ...]
    has_children: bool = False
    left_out: int = 0

    @property
    def depth(self) -> int:
        return len(self.ends) - 1


@dataclass(frozen=True, slots=True)
class TraceView:
    """All rows, and the five marks of the scale above their lanes."""

    rows: Sequence[TraceRow]
    marks: Sequence[str]


def trace_view(lineage: Lineage, plan: Plan, now_ms: int, now: datetime, *, first: int = 0) -> TraceView:
    """The family of a message, the root first: its ancestors, and what came of it.

    Of its children, a hundred are shown from the number `first` on.
    """
    branches = list(branches_of(lineage, first))
    spans = {
        branch.message_id: [span for found in _places(lineage, branch) for span in spans_of(found, now_ms)]
        for branch in branches
    }
    begin = min((span.from_ms for each in spans.values() for span in each), default=now_ms)
    rows = [_row(branch, lineage, plan, spans[branch.message_id], (begin, now_ms, now)) for branch in branches]
    quarter = (now_ms - begin) / 4000
    later = [f"+{duration_text(quarter * i)}" for i in (1, 2, 3)]
    return TraceView(rows, [time_at(begin, now).text, *later, "now"])


def branches_of(lineage: Lineage, first: int) -> Iterator[Branch]:
    """The tree, parents before their children, bounded: of most messages only a few children are in it."""
    children: dict[str, list[str]] = {}
    for message_id in sorted(lineage.ids()):
        children.setdefault(lineage.parent_of(message_id), []).append(message_id)
    line = {lineage.message_id}
    above = lineage.parent_of(lineage.message_id)
    while above and above not in line:
        line.add(above)
        above = lineage.parent_of(above)
    stack = [Branch(root, (True,)) for root in children.get("", [])]
    while stack:
        branch = stack.pop()
        below = children.get(branch.message_id, []) if branch.depth < _DEEPEST and not branch.left_out else []
        yield Branch(branch.message_id, branch.ends, bool(below), branch.left_out)
        is_here = branch.message_id == lineage.message_id
        start, most = (first, MOST_CHILDREN) if is_here else (0, _MOST_OTHERS)
        kept = [child for i, child in enumerate(below) if start <= i < start + most or child in line]
        left_out = len(below) - len(kept)
        if left_out:
            stack.append(Branch(branch.message_id, (*branch.ends, True), left_out=left_out))
        for i, child in reversed(list(enumerate(kept, 1))):
            stack.append(Branch(child, (*branch.ends, i == len(kept) and not left_out)))


def _places(lineage: Lineage, branch: Branch) -> Sequence[Found]:
    return () if branch.left_out else lineage.found.get(branch.message_id, ())


def _paths(branch: Branch) -> list[str]:
    """The lines of the tree in a row: those that pass it, the one that leads to its dot, and the one down from it."""
    middle, depth = _HEIGHT // 2, branch.depth
    lines = [f"M{_x(i - 1)} 0V{_HEIGHT}" for i in range(1, depth) if not branch.ends[i]]
    if depth:
        lines.append(f"M{_x(depth - 1)} 0V{middle if branch.ends[-1] else _HEIGHT}")
        lines.append(f"M{_x(depth - 1)} {middle}H{_x(depth) - 4}")
    if branch.has_children:
        lines.append(f"M{_x(depth)} {middle + 4}V{_HEIGHT}")
    return lines


def _x(depth: int) -> int:
    return 7 + _INDENT * depth


def _row(
    branch: Branch, lineage: Lineage, plan: Plan, spans: Sequence[Span], time: tuple[int, int, datetime]
) -> TraceRow:
    begin, now_ms, now = time
    message_id, paths = branch.message_id, _paths(branch)
    if branch.left_out:
        noun = "child" if branch.left_out == 1 else "children"
        return TraceRow(message_id, branch.depth, paths, more=f"{branch.left_out:,} more {noun}")
    is_here = message_id == lineage.message_id
    places = _places(lineage, branch)
    if not places:
        return TraceRow(message_id, branch.depth, paths, dot="", where="settled or removed", is_here=is_here)
    last = places[-1]
    state, dot = _LOOKS[last.state]
    letter = lineage.letters.get((last.place, last.entry_id))
    edge = plan.edge_by_name.get(last.place)
    return TraceRow(
        message_id,
        branch.depth,
        paths,
        dot=dot,
        state=state,
        stage=edge.target if edge else last.place,
        where=" · ".join(_where(each, masked_text(letter.line) if letter else "") for each in places),
        tale=_tale(last, now_ms, now),
        letter_id=last.entry_id if last.state is State.DEAD else "",
        kind=letter.fingerprint if letter else "letter",
        lane=lane_of(spans, begin, now_ms),
        is_here=is_here,
    )


def _where(found: Found, error: str) -> str:
    match found.state:
        case State.WAITING:
            return f"waiting on {found.place}"
        case State.RUNNING:
            return f"running at {found.worker}"
        case State.DELAYED:
            return f"delayed on {found.place}"
        case State.DEAD:
            return f"dead: {error}" if error else "dead"
        case State.DONE:
            return "settled, kept"


def _tale(found: Found, now_ms: int, now: datetime) -> str:
    past = duration_text(max(0, now_ms - found.at_ms) / 1000)
    match found.state:
        case State.WAITING:
            return f"for {past}"
        case State.RUNNING:
            return f"attempt {found.header.attempt}, for {past}"
        case State.DELAYED:
            due = duration_text(max(0, found.at_ms - now_ms) / 1000)
            return f"attempt {found.header.attempt} in {due}" if found.at_ms > now_ms else "due"
        case State.DEAD:
            return f"died {time_at(found.at_ms, now).text}"
        case State.DONE:
            return f"ok, {time_at(found.at_ms, now).text}"
