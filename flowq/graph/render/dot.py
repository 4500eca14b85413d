"""A plan in the language of Graphviz."""

from __future__ import annotations

from html import escape

from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import Kind
from flowq.graph.render.labels import drawn_edges, edge_label, options, sizes

_HEAD = """\
  rankdir=LR; bgcolor="transparent"; nodesep=0.4; ranksep=0.8;
  node [fontname="Helvetica,Arial,sans-serif", fontsize=13, fontcolor="#0f172a", penwidth=1.4];
  node [margin="0.2,0.12"];
  edge [fontname="Helvetica,Arial,sans-serif", fontsize=11, fontcolor="#475569"];
  edge [color="#64748b", arrowsize=0.7];
"""
_LOOK = {
    Kind.SOURCE: 'shape=oval, style=filled, color="#0d9488", fillcolor="#f0fdfa"',
    Kind.STAGE: 'shape=box, style="rounded,filled", color="#4f46e5", fillcolor="#eef2ff"',
    Kind.SINK: 'shape=cylinder, style=filled, color="#d97706", fillcolor="#fffbeb"',
}
_FEEDBACK = ', style=dashed, color="#9333ea", constraint=false'


def dot(plan: Plan) -> str:
    """Draw a plan from left to right; a feedback edge is dashed and does not affect the ranks."""
    lines = [f"digraph {_quoted(plan.name)} {{\n{_HEAD}"]
    lines += [f"  {_quoted(stage.name)} [label={_label(stage)}, {_LOOK[stage.kind]}];\n" for stage in plan.stages]
    for edge in drawn_edges(plan):
        label = edge_label(plan, edge) + (" ↺" if edge.feedback else "")
        look = f"label={_quoted(label)}{_FEEDBACK if edge.feedback else ''}"
        lines.append(f"  {_quoted(edge.origin)} -> {_quoted(edge.target)} [{look}];\n")
    return "".join(lines) + "}\n"


def _label(stage: StagePlan) -> str:
    """The name in bold, its sizes beside it and its options below, in the HTML-like language of Graphviz."""
    name = " ".join((f"<b>{escape(stage.name)}</b>", *sizes(stage)))
    below = escape(" · ".join(options(stage)))
    return f'<{name}<br/><font point-size="10" color="#64748b">{below}</font>>' if below else f"<{name}>"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
