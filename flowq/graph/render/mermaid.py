"""A plan as a Mermaid flowchart, which GitHub and many documentation tools draw."""

from __future__ import annotations

import re

from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import Kind
from flowq.graph.render.labels import drawn_edges, edge_label, options, sizes

_SHAPE = {Kind.SOURCE: ("([", "])"), Kind.STAGE: ("[", "]"), Kind.SINK: ("[(", ")]")}
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Words that the grammar of a flowchart reserves where an identifier may be.
_RESERVED = frozenset(
    {"call", "class", "classdef", "click", "default", "direction", "end", "flowchart", "graph", "href"}
    | {"interpolate", "linkstyle", "style", "subgraph"}
)
_HAS_MEANING = re.compile(r'["#&<>`\\*~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])')  # snake_case has none


def mermaid(plan: Plan) -> str:
    """Draw a plan from left to right; a feedback edge is dotted and marked with ↺."""
    identifiers = {stage.name: _identifier(stage.name, number) for number, stage in enumerate(plan.stages)}
    lines = ["flowchart LR"]
    for stage in plan.stages:
        opening, closing = _SHAPE[stage.kind]
        lines.append(f'  {identifiers[stage.name]}{opening}"{_label(stage)}"{closing}')
    for edge in drawn_edges(plan):
        label = _text(edge_label(plan, edge)) + (" ↺" if edge.feedback else "")
        arrow = "-.->" if edge.feedback else "-->"
        lines.append(f'  {identifiers[edge.origin]} {arrow}|"{label}"| {identifiers[edge.target]}')
    return "\n".join(lines) + "\n"


def _label(stage: StagePlan) -> str:
    first = " ".join((stage.name, *sizes(stage)))
    second = " · ".join(options(stage))
    return _text(first) + (f"<br/>{_text(second)}" if second else "")


def _identifier(name: str, number: int) -> str:
    plain = _PLAIN_NAME.fullmatch(name) and name.lower() not in _RESERVED
    # no plain name begins with "_", so the substitute cannot be another stage's name
    return name if plain else f"_{number}"


def _text(text: str) -> str:
    """Text in which no character has a meaning to Mermaid, Markdown or HTML."""
    return _HAS_MEANING.sub(lambda found: f"#{ord(found[0])};", text)
