"""How `--help` looks: click's plain layout, coloured on a terminal, with examples kept as they are written."""

from __future__ import annotations

import inspect
from itertools import groupby
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup


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
        records = [(_panel(parameter), parameter.get_help_record(ctx)) for parameter in self.get_params(ctx)]
        shown = [(panel, record) for panel, record in records if record is not None]
        for panel in dict.fromkeys(panel for panel, _ in shown):
            _write_section(formatter, panel, [record for name, record in shown if name == panel])
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)

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
        info.cls = Command
    app.rich_markup_mode = None
    app._add_completion = False  # pyright: ignore[reportPrivateUsage]
    command = cast("TyperCommand | TyperGroup", typer.main.get_command(app))
    command.name = name
    return command


def _panel(parameter: Any) -> str:
    kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return getattr(parameter, "rich_help_panel", None) or kind


def _write_section(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    with formatter.section(_heading(title)):
        formatter.write_dl([(typer.style(left, fg="cyan"), right) for left, right in rows])


def _heading(text: str) -> str:
    return typer.style(text, bold=True)
