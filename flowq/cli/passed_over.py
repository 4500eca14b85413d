"""Files beside the pipelines that look like one and are not found under any name, each with the reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowq.cli.errors import shown

if TYPE_CHECKING:
    from flowq.settings import Settings

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INIT = "__init__.py"
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder that is left out, and what to do about it."""

    path: Path
    remedy: str

    def __str__(self) -> str:
        return f"{shown(self.path)} is passed over: {self.remedy}"


def passed_over(settings: Settings) -> list[PassedOver]:
    """All of them, in the places that the settings name. Nothing is imported."""
    found: list[PassedOver] = []
    seen: dict[str, Path] = {}
    for place in settings.pipelines:
        if ":" in place:
            continue
        folder = Path(os.path.normpath(Path.cwd() / place))
        found += _in(folder, place)
        for name, path in _named(folder):
            if (first := seen.setdefault(name, path)) != path and _defines_pipeline(path):
                found.append(PassedOver(path, f"{shown(first)} has the same name"))
    return found


def named_like(given: str, settings: Settings) -> PassedOver | None:
    """The one that somebody means who has called it by the name of its file."""
    wanted = _as_name(Path(given).name.removesuffix(".py"))
    return next(
        (left for left in passed_over(settings) if _as_name(left.path.name.removesuffix(".py")) == wanted), None
    )


def packages_in(folder: Path) -> list[Path]:
    """The folders that Python can import as one module."""
    return [path for path in _folders_in(folder) if NAME.fullmatch(path.name) and (path / INIT).is_file()]


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in packages_in(folder):  # Python takes the package where there is a file of that name, too
        yield path.name, path
    for path in sorted(folder.glob("*.py")):
        yield path.stem, path


def _in(folder: Path, place: str) -> Iterator[PassedOver]:
    for file in sorted(folder.glob("*.py")):
        if not NAME.fullmatch(file.stem) and _defines_pipeline(file):
            yield PassedOver(file, f"Python cannot import that name, rename it to {_as_name(file.stem)}.py")
    for path in _folders_in(folder):
        files = [file for file in sorted(path.glob("*.py")) if _defines_pipeline(file)]
        if not files:
            continue
        if not NAME.fullmatch(path.name):
            yield PassedOver(path, f"Python cannot import that name, rename it to {_as_name(path.name)}")
        elif b"import" not in _text(path / INIT) and files != [path / INIT]:
            inner = f"{place.rstrip('/')}/{path.name}"
            yield PassedOver(path, f'add "{inner}" to the setting pipelines.path, or import its pipeline in {INIT}')


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    except OSError:  # it is not there, or not ours to read
        return []


def _as_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)
    return f"_{name}" if name[:1].isdigit() else name


def _defines_pipeline(path: Path) -> bool:
    return b"Pipeline(" in _text(path / INIT if path.is_dir() else path)


def _text(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError:
        return b""
