"""`flowq ls`: lists the pipelines of the project."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from flowq.cli.framework.error_screen import note, shown, summary
from flowq.cli.framework.ignored import ignored
from flowq.cli.framework.loading import load_all
from flowq.cli.framework.neighbours import way_to
from flowq.cli.framework.parameters import Json
from flowq.printable import json_text
from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    stages: list[str]
    file: str
    error: str | None = None


def command(as_json: Json = False) -> None:
    """List the pipelines of this project.

    A file may define several, also in lists and dictionaries; the folders of the setting pipelines.path are searched
    with their subfolders. A file that cannot be imported is listed with its error; the exit code is 0 nevertheless (see
    flowq check). Files without a pipeline are left out. A file whose pipeline cannot be found is reported on standard
    error.

    Example:
      flowq ls
      flowq ls --json | jq -r '.[].name'
    """
    settings = Settings.load()
    rows = _rows(settings)
    if as_json:
        print(json_text(rows, indent=True))
    elif rows:
        _print_table(rows)
    files = ignored(settings)
    for file in files:
        note(str(file))
    if not rows and not files:
        where = ", ".join(settings.pipelines)
        note(f'no pipelines in {where}: write {where}/NAME.py with  NAME = Pipeline("NAME", first >> second)')
        if way := way_to("", settings):
            note(way)
    elif broken := sum(row.error is not None for row in rows):
        note(f"{broken} of {len(rows)} cannot be loaded: flowq check shows why")


def _rows(settings: Settings) -> list[_Row]:
    found, broken = load_all(settings)
    rows = [_Row(one.name, [stage.name for stage in one.pipeline.plan.stages], shown(one.file)) for one in found]
    rows += [_Row(name, [], one.where, summary(one.error)) for one in broken for name in one.names]
    return sorted(rows, key=lambda row: row.name)


def _print_table(rows: list[_Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    from flowq.cli.views.table import console_for

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("pipeline", style="bold", no_wrap=True)
    table.add_column("stages")
    table.add_column("file", style="cyan", no_wrap=True)
    for row in rows:
        content = Text(row.error, style="red") if row.error else Text(", ".join(row.stages))
        table.add_row(row.name, content, row.file)
    console_for(sys.stdout).print(table)
