"""How `--help` looks: Typer's plain layout with a section for each panel, coloured on a terminal.

Rich's layout would cost 0.4 s of imports before the first line is on the screen.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from flowq.cli.framework.option_groups import expanded

_LEAST = re.compile(r"  \[x>=\d+\]|; x>=\d+(?=\])")  # that a count is not negative goes without saying
_BOUNDS = re.compile(r"(\d+)<=x<=(\d+)")


class _Page:
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = cast("list[str]", super().collect_usage_pieces(ctx))  # type: ignore[misc]
        return [piece.replace("{", "").replace("}", "") for piece in pieces]

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        rows: list[tuple[str, str, str]] = []
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or f"{parameter.param_type_name.title()}s"
                text = _BOUNDS.sub(r"\1 to \2", _LEAST.sub("", record[1]))
                if panel == "Arguments":  # the usage says that it is required
                    text = text.removesuffix("  [required]")
                rows.append((panel, record[0].partition(" <")[0], text))
        _write_sections(formatter, rows)
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)


class Command(_Page, TyperCommand):
    """A command with this help."""


class Group(_Page, TyperGroup):
    """A command with subcommands with this help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        rows = (
            (
                getattr(command, "rich_help_panel", None) or "Commands",
                name.ljust(width),
                command.get_short_help_str(100),
            )
            for name, command in self.commands.items()
        )
        _write_sections(formatter, rows)


class App(typer.Typer):
    """A Typer whose commands have this help and may have groups of options."""

    def __init__(self, *, cls: type[Group] = Group, add_completion: bool = False, **settings: Any) -> None:
        super().__init__(cls=cls, add_completion=add_completion, rich_markup_mode=None, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a function as a command; the function stays what it is."""

        def register(function: Callable[..., None]) -> Callable[..., None]:
            text = help_of(function)
            typer.Typer.command(self, name, cls=Command, help=text, **settings)(expanded(function))
            return function

        return register


def help_of(function: Callable[..., Any]) -> str:
    """The docstring, with its examples kept as they are written; from the source where Python runs with -OO."""
    text = function.__doc__
    if text is None and sys.flags.optimize >= 2:
        (definition,) = ast.parse(inspect.cleandoc(inspect.getsource(function))).body
        text = ast.get_docstring(definition) if isinstance(definition, ast.FunctionDef) else None
    heading = typer.style("Example:", bold=True)
    return inspect.cleandoc(text or "").replace("\nExample:", f"\n\b\n{heading}")


def _write_sections(formatter: Any, rows: Iterable[tuple[str, str, str]]) -> None:
    """Definition lists, each under its title."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, name, text in rows:
        sections.setdefault(title, []).append((typer.style(name, fg="cyan"), text))
    for title, entries in sections.items():
        with formatter.section(typer.style(title, bold=True)):
            formatter.write_dl(entries)
