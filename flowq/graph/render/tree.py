"""A plan as a tree for the terminal: one row per stage, read from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan
from flowq.graph.kinds import Kind
from flowq.graph.render.labels import details, edge_label, key_name
from flowq.graph.render.text import clipped, pack

WIDTH = 80
_WIDEST_HEAD = 32  # heads up to here share one column of details; a wider one starts its own
_GLYPH = {Kind.SOURCE: "◉", Kind.STAGE: "●", Kind.SINK: "■"}
_ASCII = str.maketrans(
    {"◉": "o", "●": "*", "■": "#", "│": "|", "├": "|", "└": "`", "┐": ".", "─": "-", "▶": ">", "×": "x"}
    | {"↺": "(loop)", "↓": "(below)", "…": "~"}
)


def tree(plan: Plan, *, ascii: bool = False) -> str:
    """Draw a plan in at most 80 columns.

    A stage that several others feed is below the last of them; the others say `name ↓`. An edge back to a stage above
    says `name ↺`. Details that do not fit continue in the next row, a type that does not fit is cut with `…`.
    `ascii=True` uses ASCII characters only.
    """
    rows = [row.in_ascii() if ascii else row for row in tree_rows(plan)]
    widths = [len(row.head) for row in rows if row.details]
    column = 2 + max((width for width in widths if width <= _WIDEST_HEAD), default=0)
    text = "".join(f"{line}\n" for row in rows for line in row.lines(column))
    return text.translate(_ASCII) if ascii else text  # again, for what was cut since


def tree_rows(plan: Plan) -> list[Row]:
    """The same as rows, to be drawn beside something else."""
    return list(_Tree(plan).rows())


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what is drawn, the details in the column beside it, and the stem that continues below.

    `stage` and `edge` are what is drawn there, "" for none.
    """

    head: str
    details: tuple[str, ...] = ()
    below: str = ""
    stage: str = ""
    edge: str = ""

    def in_ascii(self) -> Row:
        def plain(text: str) -> str:
            return text.translate(_ASCII).encode("ascii", "replace").decode()

        return replace(self, head=plain(self.head), details=tuple(map(plain, self.details)), below=plain(self.below))

    def lines(self, column: int) -> Iterator[str]:
        start = max(column, len(self.head) + 2)
        head, lines = self.head, pack(self.details, "  ", WIDTH - start)
        if start > column and (len(lines) > 1 or any(start + len(line) > WIDTH for line in lines)):
            yield clipped(head, WIDTH)
            start, head, lines = column, self.below, pack(self.details, "  ", WIDTH - column)
        for line in lines or ("",):
            yield clipped(f"{head:<{start}}{line}".rstrip(), WIDTH)
            head = self.below


class _Tree:
    """A walk down from the sources. `unseen` counts the edges by which the walk has not reached a stage yet."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        forward = [edge for edge in plan.edges if not edge.is_inlet and not edge.feedback]
        self.unseen = Counter(edge.target for edge in forward)

    def rows(self) -> Iterator[Row]:
        for root in [stage for stage in self.plan.stages if not self.unseen[stage.name]]:
            yield from self._from(root, " ")

    def _from(self, stage: StagePlan, margin: str) -> Iterator[Row]:
        """A stage and everything that it leads to, in a column straight below it."""
        edges = self.plan.edges_out_of(stage.name)
        trunk = self._trunk(edges)
        stem = margin + "│" * bool(edges)
        yield Row(f"{margin}{_GLYPH[stage.kind]} {stage.name}", details(stage), stem, stage=stage.name)
        sides = [edge for edge in edges if edge is not trunk]
        width = max((len(edge_label(self.plan, edge)) for edge in sides), default=0)
        for edge in sides:
            yield from self._side(edge, margin, width, last=trunk is None and edge is sides[-1])
        if trunk:
            yield Row(f"{margin}│ {edge_label(self.plan, trunk)}", edge=trunk.name)
            yield from self._from(self.plan.stage(trunk.target), margin)

    def _trunk(self, edges: tuple[EdgePlan, ...]) -> EdgePlan | None:
        """The edge that goes straight down: the only one, else the last one whose stage leads further."""
        here = [edge for edge in edges if not edge.feedback and self.unseen[edge.target] == 1]
        if len(edges) == 1:
            return here[0] if here else None
        return next((edge for edge in reversed(here) if self.plan.edges_out_of(edge.target)), None)

    def _side(self, edge: EdgePlan, margin: str, width: int, *, last: bool) -> Iterator[Row]:
        """An edge that branches off: to one row, or to a column of its own if its stage leads further."""
        fork, stem = ("└─", "  ") if last else ("├─", "│ ")
        label = edge_label(self.plan, edge)
        target = self.plan.stage(edge.target)
        if edge.feedback or self.unseen[target.name] > 1:  # a mere reference, which stays in one row
            room = WIDTH - len(f"{margin}{fork}  ──▶ {target.name} (below)")
            width, label = min(width, room), clipped(label, room)
        arrow = f"{margin}{fork} {label:<{width}} ──▶ "
        if edge.feedback:
            bound = (f"dedup {key_name(target.dedup.by)}",) if target.dedup else ()
            yield Row(f"{arrow}{target.name} ↺", bound, margin + stem, edge=edge.name)
            return
        self.unseen[target.name] -= 1
        if self.unseen[target.name]:
            yield Row(f"{arrow}{target.name} ↓", edge=edge.name)
        elif self.plan.edges_out_of(target.name) or len(arrow) + len(target.name) > WIDTH // 2:
            yield Row(f"{margin}{fork}┐ {label}", edge=edge.name)
            yield from self._from(target, margin + stem)
        else:
            head = f"{arrow}{_GLYPH[target.kind]} {target.name}"
            yield Row(head, details(target), margin + stem, stage=target.name, edge=edge.name)
