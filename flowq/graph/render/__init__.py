"""Drawings of a plan: as a tree, as Mermaid, as Graphviz, as SVG or as JSON.

Reads plans and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flowq.errors import UsageError, did_you_mean
from flowq.graph.compilation.plan import Plan
from flowq.graph.render.data import json
from flowq.graph.render.dot import dot
from flowq.graph.render.mermaid import mermaid
from flowq.graph.render.svg import svg
from flowq.graph.render.tree import tree

FORMATS: Mapping[str, Callable[[Plan], str]] = MappingProxyType(
    {"tree": tree, "mermaid": mermaid, "dot": dot, "svg": svg, "json": json}
)

__all__ = ["FORMATS", "render"]


def render(plan: Plan, format: str = "tree", *, ascii: bool = False) -> str:
    """Draw a plan as text that ends in a newline. Inlets are not drawn.

    `format` is a key of FORMATS. `ascii=True` draws the tree with ASCII characters only; the other formats
    are for programs that read UTF-8, and ignore it. Raises UsageError for an unknown format.

    >>> print(render(Plan("empty", (), ()), "mermaid"), end="")
    flowchart LR
    """
    if format == "tree":
        return tree(plan, ascii=ascii)
    try:
        draw = FORMATS[format]
    except KeyError:
        near, choices = did_you_mean(format, FORMATS), f"formats: {', '.join(FORMATS)}"
        raise UsageError(f'there is no format "{format}"', hint=f"{near}  {choices}".lstrip()) from None
    return draw(plan)
