"""Files and folders that seem to hold a pipeline but cannot be loaded by any name, each with the remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowq.cli.framework.error_screen import shown
from flowq.cli.framework.modules import INIT, NAME, folder_of, folders_in, is_shadowed, text_of

if TYPE_CHECKING:
    from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file or folder that is ignored, and what to do about it."""

    path: Path
    remedy: str

    def __str__(self) -> str:
        return f"{shown(self.path)} is ignored: {self.remedy}"


def ignored(settings: Settings) -> list[Ignored]:
    """All of them, in the places that the settings name. Nothing is imported."""
    found: list[Ignored] = []
    for place in settings.pipelines:
        if ":" not in place:
            found += _in(folder_of(place, settings.root), place, settings.root)
    return found


def ignored_as(given: str, settings: Settings) -> Ignored | None:
    """The ignored file that `given` names, if it is the name of a file rather than of a pipeline."""
    wanted = _as_name(Path(given).name.removesuffix(".py"))
    return next((one for one in ignored(settings) if _as_name(one.path.name.removesuffix(".py")) == wanted), None)


def _in(folder: Path, place: str, project: Path) -> Iterator[Ignored]:
    is_root = folder == project
    for file in sorted(folder.glob("*.py")):
        if file.name == INIT or not _defines_pipeline(file):
            continue
        if not NAME.fullmatch(file.stem):
            yield Ignored(file, f"Python cannot import a file of that name; rename it to {_as_name(file.stem)}.py")
        elif (folder / file.stem / INIT).is_file():
            yield Ignored(file, f"Python imports the folder of that name; rename it, or {shown(folder / file.stem)}")
        elif is_root and file.stem in sys.stdlib_module_names:
            yield Ignored(file, "Python has a module of that name; rename it")
    for path in folders_in(folder):
        files = [file for file in sorted(path.glob("*.py")) if _defines_pipeline(file)]
        if files and not NAME.fullmatch(path.name):
            yield Ignored(path, f"Python cannot import a folder of that name; rename it to {_as_name(path.name)}")
        elif files and is_shadowed(path):
            yield Ignored(path, f"Python imports {path.name}.py; rename one of them, or add {INIT} to the folder")
        elif not is_root:
            yield from _in(path, place, project)
        elif files and b"import" not in text_of(path / INIT) and files != [path / INIT]:
            inner = f"{place.rstrip('/')}/{path.name}"
            yield Ignored(path, f'add "{inner}" to the setting pipelines.path, or import its pipeline in {INIT}')


def _as_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)
    return f"_{name}" if name[:1].isdigit() else name


def _defines_pipeline(file: Path) -> bool:
    return b"Pipeline(" in text_of(file)
