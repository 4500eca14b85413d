"""The page on the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer

from flowq.cli.app import COMMANDS, app, command_named

_EXAMPLE = re.compile(r"^Example:\n((?:  .*\n?)+)", re.MULTILINE)


def commands() -> str:
    """The page."""
    lines = ["# Commands", "", "`flowq COMMAND --help` shows the same in a terminal."]
    lines += ["", *_parameters(typer.main.get_command(app), "flowq")]
    for group, named in groupby(COMMANDS, key=lambda command: command[1]):
        lines += ["", f"## {group}"]
        for name, *_ in named:
            lines += _described(command_named(name), f"flowq {name}", "###")
    return "\n".join(lines) + "\n"


def _described(command: Any, name: str, heading: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    inside = getattr(command, "commands", {})
    alone = len(inside) == 1 and name.split()[-1] in inside
    if alone:
        yield from _described(next(iter(inside.values())), name, heading)
        return
    usage = command.get_usage(context).partition(": ")[2]
    text = _EXAMPLE.sub(_block, _plain(command.help or "").replace("\b\n", ""))
    yield from ("", f"{heading} {name}", "", f"`{' '.join(usage.split())}`", "", text.rstrip(), "")
    yield from _parameters(command, name)
    for inner, each in inside.items():
        yield from _described(each, f"{name} {inner}", heading + "#")


def _block(example: re.Match[str]) -> str:
    return "```text\n" + re.sub("^  ", "", example[1], flags=re.MULTILINE).rstrip() + "\n```\n"


def _parameters(command: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    records = [record for parameter in command.params if (record := _record(parameter, context))]
    if records:
        yield from ("| parameter | meaning |", "|---|---|")
    for declared, meaning in records:
        yield f"| `{declared}` | {meaning} |".replace("\n", " ")


def _record(parameter: Any, context: Any) -> tuple[str, str] | None:
    if getattr(parameter, "hidden", False):
        return None
    record = parameter.get_help_record(context)
    if record is None:
        return None
    declared, meaning = record
    declared = _plain(declared).removesuffix(" <str>")
    return declared.replace("|", "\\|"), _plain(meaning).replace("|", "\\|").replace("<", "&lt;")


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
