"""Docstrings and signatures of flowq as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

_PARAMETER = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")
_LONGEST_LINE = 88


def as_markdown(docstring: str, types: Mapping[str, str] | None = None) -> str:
    """A docstring with its parameters as a list, and its examples as blocks of code.

    types: of parameters, shown beside their names.
    """
    written = list[str]()
    for paragraph in re.split(r"\n{2,}", inspect.cleandoc(docstring)):
        lines = paragraph.split("\n")
        example = next((n for n, line in enumerate(lines) if line.startswith(">>>")), len(lines))
        if text := lines[:example]:
            written.append(_list(text, types or {}) if _PARAMETER.fullmatch(text[0]) else "\n".join(text))
        if example < len(lines):
            written.append("\n".join(["```pycon", *lines[example:], "```"]))
    return "\n\n".join(written).replace("```\n\n```pycon\n", "\n")


def _list(lines: list[str], types: Mapping[str, str]) -> str:
    items = list[str]()
    for line in lines:
        if found := _PARAMETER.fullmatch(line):
            of = f" *({types[found[1]]})*" if found[1] in types else ""
            items.append(f"- **`{found[1]}`**{of}: {found[2]}")
        else:
            items[-1] += f" {line.strip()}"
    return "\n".join(items)


def signature(name: str, fn: Callable[..., Any]) -> str:
    """How a function is called, as a block of code: on one line if that is short."""
    declared = inspect.signature(fn)
    parameters = list[str]()
    seen_star = False
    for parameter in declared.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not seen_star:
            parameters.append("*")
        seen_star = seen_star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parameters.append(_parameter(parameter))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parameters = [one for one in parameters if one != "/"] + ["/"]
    returned = "" if declared.return_annotation is declared.empty else f" -> {declared.return_annotation}"
    inside = ", ".join(parameters)
    if len(name) + len(inside) + len(returned) > _LONGEST_LINE:
        inside = "".join(f"\n    {parameter}," for parameter in parameters) + "\n"
    return f"```text\n{name}({inside}){returned}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    of = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    default = "" if parameter.default is parameter.empty else f"{' = ' if of else '='}{_default(parameter.default)}"
    return f"{stars}{parameter.name}{of}{default}"


def _default(value: Any) -> str:
    """A value as it is written in code. Sets have no order of their own, classes no code that makes them."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(_default(each) for each in cast("frozenset[Any]", value))) + "}"
    return repr(value)
