"""Projects above and below the current folder, for those who started `flowq` in the wrong one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from flowq.cli.framework.invocation import FOLDER
from flowq.cli.framework.modules import folders_in, modules, text_of
from flowq.errors import FlowqError
from flowq.settings import Settings

_DEEPEST, _MOST_FOLDERS = 3, 300


def way_to(name: str, settings: Settings) -> str:
    """Where a pipeline is that this project lacks, and the command that finds it; "" if it is not near.

    Without a name it is about any project that has pipelines.
    """
    for folder in _projects_near(settings.root):
        try:
            names = {one for module in modules(Settings.load(folder)) for one in module.likely_names}
        except FlowqError:
            continue
        if names and (not name or name in names):
            there = os.path.normpath(Path(os.environ.get(FOLDER, "")) / os.path.relpath(folder))
            command = shlex.join(["flowq", "-C", there, *_arguments()])
            return f"{'it' if name else 'a project'} is in {there}:  {command}"
    return ""


def _arguments() -> list[str]:
    """The command line without its own -C."""
    rest = sys.argv[1:]
    while rest[:1] == ["-C"]:
        rest = rest[2:]
    return rest


def _projects_near(root: Path) -> Iterator[Path]:
    """Folders that seem to be projects: the nearest first, above and then below."""
    yield from filter(_seems_a_project, root.parents[:-1])
    level, n_seen = [root], 0
    for _ in range(_DEEPEST):
        level = [inner for folder in level for inner in folders_in(folder)]
        n_seen += len(level)
        if n_seen > _MOST_FOLDERS:
            return
        yield from filter(_seems_a_project, level)


def _seems_a_project(folder: Path) -> bool:
    if b"[tool.flowq" in text_of(folder / "pyproject.toml"):
        return True
    return any(b"Pipeline(" in text_of(file) for file in sorted((folder / "pipelines").glob("*.py")))
