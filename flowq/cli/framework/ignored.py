"""Files and folders that seem to hold a pipeline but cannot be loaded by any name, each with the remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowq.cli.framework.error_screen import shown

if TYPE_CHECKING:
    from flowq.settings import Settings

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INIT = "__init__.py"
_MOST_BYTES = 1_000_000


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
    seen: dict[str, Path] = {}
    for place in settings.pipelines:
        if ":" in place:
            continue
        folder = Path(os.path.normpath(settings.root / place))
        found += _in(folder, place)
        for name, file in modules_in(folder):
            if (first := seen.setdefault(name, file)) != file and _defines_pipeline(file):
                found.append(Ignored(file, f"{shown(first)} has the same name"))
    return found


def ignored_as(given: str, settings: Settings) -> Ignored | None:
    """The ignored file that `given` names, if it is the name of a file rather than of a pipeline."""
    wanted = _as_name(Path(given).name.removesuffix(".py"))
    return next((one for one in ignored(settings) if _as_name(one.path.name.removesuffix(".py")) == wanted), None)


def modules_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every module that Python can import from a folder.

    Packages come first: Python prefers a package to a file of the same name.
    """
    for path in _folders_in(folder):
        if NAME.fullmatch(path.name) and (path / _INIT).is_file():
            yield path.name, path / _INIT
    for file in sorted(folder.glob("*.py")):
        if NAME.fullmatch(file.stem) and not file.stem.startswith("__"):
            yield file.stem, file


def _in(folder: Path, place: str) -> Iterator[Ignored]:
    for file in sorted(folder.glob("*.py")):
        if not NAME.fullmatch(file.stem) and _defines_pipeline(file):
            yield Ignored(file, f"Python cannot import a file of that name; rename it to {_as_name(file.stem)}.py")
    for path in _folders_in(folder):
        files = [file for file in sorted(path.glob("*.py")) if _defines_pipeline(file)]
        if not files:
            continue
        if not NAME.fullmatch(path.name):
            yield Ignored(path, f"Python cannot import a folder of that name; rename it to {_as_name(path.name)}")
        elif b"import" not in _text(path / _INIT) and files != [path / _INIT]:
            inner = f"{place.rstrip('/')}/{path.name}"
            yield Ignored(path, f'add "{inner}" to the setting pipelines.path, or import its pipeline in {_INIT}')


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    except OSError:  # missing, or not readable
        return []


def _as_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)
    return f"_{name}" if name[:1].isdigit() else name


def _defines_pipeline(file: Path) -> bool:
    return b"Pipeline(" in _text(file)


def _text(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError:
        return b""
