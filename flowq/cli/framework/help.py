"""How `--help` looks: click's plain layout, coloured on a terminal, with examples kept as they are written."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from itertools import groupby
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from flowq.cli.framework.made_of import with_options

_REQUIRED = re.compile(r"^\{(.+)\}")
_TYPE = re.compile(r"<(?:list\[)?(\w+)(?: range)?\]?>")
_LEAST = re.compile(r"  \[x>=\d+\]|; x>=\d+(?=\])")
_BOUNDS = re.compile(r"(\d+)<=x<=(\d+)")
_METAVARS = {"int": "N", "float": "N", "path": "FILE"}


class _Page:
    """Lays out the help of a command or group.

    Rich's own layout would cost a third of a second of imports before the first line is on the screen.
    """

    def format_help_text(self: Any, ctx: Any, formatter: Any) -> None:
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                if paragraph.startswith(("Example:", " ")):  # its lines mean something
                    lines = paragraph.replace("Example:", _heading("Example:"), 1).split("\n")
                    formatter.write("".join(f"  {line}\n" for line in lines))
                else:
                    formatter.write_text(paragraph.replace("\n", " "))

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                is_argument = parameter.param_type_name == "argument"
                title = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
                sections.setdefault(title, []).append(_argument(record) if is_argument else _option(record))
        for title, rows in sections.items():
            _write_section(formatter, title, rows)
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)

    def collect_usage_pieces(self: Any, ctx: Any) -> list[str]:
        pieces = [piece for parameter in self.get_params(ctx) for piece in parameter.get_usage_pieces(ctx)]
        commands = [self.subcommand_metavar] if isinstance(self, TyperGroup) else []
        return [
            "[OPTIONS]",
            *(_REQUIRED.sub(r"\1", piece).replace("[[", "[").replace("]]", "]") for piece in pieces),
            *commands,
        ]

    def format_commands(self: Any, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        visible = [(name, command) for name, command in commands if not command.hidden]
        width = max(len(name) for name, _ in visible)
        for panel, members in groupby(visible, key=lambda item: getattr(item[1], "rich_help_panel", None)):
            rows = [(name.ljust(width), command.get_short_help_str(limit=100)) for name, command in members]
            _write_section(formatter, panel or "Commands", rows)


class Command(_Page, TyperCommand):
    """A command with this help."""


class Group(_Page, TyperGroup):
    """A command with subcommands with this help."""


def built(name: str, declared: Any) -> TyperCommand | TyperGroup:
    """The command that a module declares: a function, or a Typer with several."""
    app: typer.Typer = declared if isinstance(declared, typer.Typer) else typer.Typer()
    if app is not declared:
        app.command(name)(declared)
    app.info.cls = app.info.cls or Group
    for info in app.registered_commands:
        assert info.callback is not None
        info.cls, info.help = Command, info.help or docstring_of(info.callback)
        info.callback = with_options(info.callback)
    app.rich_markup_mode = None
    app._add_completion = False  # pyright: ignore[reportPrivateUsage]
    command = cast("TyperCommand | TyperGroup", typer.main.get_command(app))
    command.name = name
    return command


def docstring_of(function: Callable[..., Any]) -> str | None:
    """The docstring of a function, from its source where Python runs with -OO and has thrown it away."""
    if function.__doc__ or sys.flags.optimize < 2:
        return function.__doc__
    try:
        (definition,) = ast.parse(inspect.cleandoc(inspect.getsource(function))).body
    except (OSError, SyntaxError):
        return None
    return ast.get_docstring(definition) if isinstance(definition, ast.FunctionDef) else None


def _argument(record: tuple[str, str]) -> tuple[str, str]:
    """Its name says what it is, and that it is required goes without saying."""
    return record[0].partition(" <")[0], record[1].removesuffix("[required]").rstrip()


def _option(record: tuple[str, str]) -> tuple[str, str]:
    name = _TYPE.sub(lambda found: _METAVARS.get(found[1], "TEXT"), record[0])
    return name, _BOUNDS.sub(r"\1 to \2", _LEAST.sub("", record[1]))


def _write_section(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    with formatter.section(_heading(title)):
        formatter.write_dl([(typer.style(left, fg="cyan"), right) for left, right in rows])


def _heading(text: str) -> str:
    return typer.style(text, bold=True)
