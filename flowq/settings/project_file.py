"""The pyproject.toml of a project, and its folder: the root of the project."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from flowq.errors import Place, SettingsError

FILE = "pyproject.toml"
_PATH_HINT = 'where [tool.flowq.pipelines.NAME] follows, the folder is  pipelines.path = "..."'


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A pyproject.toml that has [tool.flowq]."""

    path: Path
    text: str
    tables: Mapping[str, Any]

    @property
    def shown(self) -> str:
        return _shown(self.path)


def project_file(folder: Path) -> ProjectFile | None:
    """The nearest one upwards from a folder. Raises SettingsError for one there that cannot be read.

    Those above that cannot be read are skipped, and those that another user may have written: in /tmp, anyone can.
    """
    for above in (folder, *folder.parents):
        path = above / FILE
        try:
            if above != folder and not _is_trusted(path):
                continue
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            if above == folder and os.path.lexists(path):  # unless its folder may not be looked into
                raise SettingsError(f"cannot read {FILE}: {error}") from None
            continue
        if (file := _read(path, text, is_here=above == folder)) is not None:
            return file
    return None


def current_folder() -> Path:
    """The current folder; "." if it is gone: a program may not need it."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


@cache
def root_above(folder: Path) -> Path:
    """The root of the project that a folder belongs to; the folder itself if there is none, or its file is faulty."""
    try:
        file = project_file(folder)
    except SettingsError:
        return folder
    return file.path.parent if file else folder


def _read(path: Path, text: str, *, is_here: bool) -> ProjectFile | None:
    """The file with its tables, None if it is about other tools only."""
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        if not is_here and "tool.flowq" not in text:
            return None
        at_line = re.search(r"at line (\d+)", str(error))
        place = Place(_shown(path), int(at_line[1])) if at_line else None
        hint = _PATH_HINT if "overwrite" in str(error) and "[tool.flowq.pipelines" in text else ""
        raise SettingsError(f"cannot read {FILE}: {error}", hint=hint, place=place) from None
    if not is_here and not isinstance(tables.get("tool"), dict):
        return None
    return ProjectFile(path, text, tables) if "flowq" in table_in(tables.get("tool", {}), "tool") else None


def _is_trusted(path: Path) -> bool:
    """Whether a file belongs to this user or to root, or only they could have put it there."""
    return path.stat().st_uid in (0, os.geteuid()) or not path.parent.stat().st_mode & stat.S_IWOTH


def _shown(path: Path) -> str:
    """The path as a person in the current directory would write it."""
    return os.path.relpath(path) if Path.cwd().is_relative_to(path.parent) else str(path)


def table_in(value: Any, name: str) -> Mapping[str, Any]:
    """A table of the file as such. Raises SettingsError for anything else."""
    if not isinstance(value, dict):
        raise SettingsError(f"{FILE}: {name} must be a table", hint=f"[{name}]")
    return cast("dict[str, Any]", value)
