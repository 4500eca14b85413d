"""A family of messages as its page shows it: the tree, and a lane of time for each message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flowq.broker.inspection.browse import State
from flowq.broker.inspection.family import Found
from flowq.dashboard.access.shown_fields import masked_text
from flowq.dashboard.pages.times import time_at
from flowq.dashboard.pages.trace_lanes import Lane, Span, lane_of, spans_of
from flowq.dead_letters.lineage import Lineage, TreeRow
from flowq.durations import duration_text
from flowq.graph.compilation.plan import Plan

_INDENT, _HEIGHT, _DEEPEST = 16, 32, 12  # deeper messages are not indented further
_LOOKS: Mapping[State, tuple[str, str]] = {
    State.WAITING: ("busy", "late"),
    State.RUNNING: ("reading", "live"),
    State.DELAYED: ("paced", "late"),
    State.DEAD: ("dead", "died"),
    State.DONE: ("done", "solid"),
    State.IN_TRANSIT: ("busy", "late"),
}
"""The state whose icon and colour a message has, and the dot that it is in the tree."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A message, or those of the family that are left out at this place: `more` then says how many.

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
        return _x(self.depth)

    @property
    def width(self) -> int:
        return self.dot_x + 7


@dataclass(frozen=True, slots=True)
class TraceView:
    """All rows, and the five marks of the scale above their lanes."""

    rows: Sequence[TraceRow]
    marks: Sequence[str]


def trace_view(lineage: Lineage, plan: Plan, now_ms: int, now: datetime) -> TraceView:
    """The family of a message, the root first; of a large one the most important members."""
    tree = lineage.rows()
    spans = [[span for found in row.places for span in _spans(found, lineage, now_ms)] for row in tree]
    begin = min((span.from_ms for each in spans for span in each), default=now_ms)
    rows: list[TraceRow] = []
    way: list[str] = []  # to the row, from the root
    for one, paths, own in zip(tree, _paths([row.depth for row in tree]), spans, strict=True):
        del way[one.depth :]
        if one.n_hidden:
            rows.append(TraceRow(way[-1] if way else "", one.depth, paths, more=_hidden(one)))
        else:
            way.append(one.message_id)
            rows.append(_row(one, paths, lane_of(own, begin, now_ms) if own else None, lineage, plan, now_ms, now))
    quarter = (now_ms - begin) / 4000
    later = [f"+{duration_text(quarter * i)}" for i in (1, 2, 3)]
    return TraceView(rows, [time_at(begin, now).text, *later, "now"])


def _spans(found: Found, lineage: Lineage, now_ms: int) -> list[Span]:
    failed = [attempt.at_ms for attempt in lineage.attempts(found) if attempt.at_ms is not None]
    return spans_of(found, failed, now_ms)


def _paths(depths: Sequence[int]) -> list[list[str]]:
    """The lines of the tree in each row: those that pass it, the one that leads to its dot, the one down from it."""
    middle, below = _HEIGHT // 2, 0
    younger: set[int] = set()  # depths at which a later row is a sibling
    found: list[list[str]] = []
    for depth in reversed(depths):
        younger = {each for each in younger if each <= depth}
        lines = [f"M{_x(each - 1)} 0V{_HEIGHT}" for each in range(1, depth) if each in younger]
        if depth:
            lines.append(f"M{_x(depth - 1)} 0V{_HEIGHT if depth in younger else middle}")
            lines.append(f"M{_x(depth - 1)} {middle}H{_x(depth) - 4}")
        if below > depth:
            lines.append(f"M{_x(depth)} {middle + 4}V{_HEIGHT}")
        found.append(lines)
        younger.add(depth)
        below = depth
    return found[::-1]


def _x(depth: int) -> int:
    return 7 + _INDENT * min(depth, _DEEPEST)


def _hidden(row: TreeRow) -> str:
    states = [f"{n:,} {state}" for state, n in row.hidden.items()]
    return f"{row.n_hidden:,} more" + (f": {', '.join(states)}" if states else "")


def _row(
    row: TreeRow, paths: Sequence[str], lane: Lane | None, lineage: Lineage, plan: Plan, now_ms: int, now: datetime
) -> TraceRow:
    is_here = row.message_id == lineage.message_id
    if not row.places:
        return TraceRow(row.message_id, row.depth, paths, where="settled or removed", is_here=is_here)
    last = row.places[-1]
    state, dot = _LOOKS[last.state]
    letter = lineage.letters.get((last.place, last.entry_id))
    edge = plan.edge_by_name.get(last.place)
    return TraceRow(
        row.message_id,
        row.depth,
        paths,
        dot=dot,
        state=state,
        stage=edge.target if edge else last.place,
        where=" · ".join(_where(each, masked_text(letter.line) if letter else "") for each in row.places),
        tale=_tale(last, now_ms, now),
        letter_id=last.entry_id if last.state is State.DEAD else "",
        kind=letter.fingerprint if letter else "letter",
        lane=lane,
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
        case State.IN_TRANSIT:
            return f"in transit from shard {found.shard}"


def _tale(found: Found, now_ms: int, now: datetime) -> str:
    past = duration_text(max(0, now_ms - (found.started_ms or found.appended_ms or found.at_ms)) / 1000)
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
        case State.IN_TRANSIT:
            return ""
