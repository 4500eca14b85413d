"""The modules that may define pipelines, by the settings and the names of files alone: nothing is imported."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flowq.cli.framework.error_screen import shown
from flowq.cli.framework.source_text import pipelines_in
from flowq.errors import UsageError

if TYPE_CHECKING:
    from flowq.settings import Settings

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INIT = "__init__.py"
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Module:
    """A module that may define pipelines, to be imported with `root` on `sys.path`.

    `project` is the root of the project: it goes on `sys.path` as well, so that pipelines can import their neighbours.
    Only the pipeline in `attribute` counts, if that is set. `file` is None if it is not where its name says.
    """

    name: str
    root: Path
    project: Path
    file: Path | None = None
    attribute: str = ""

    @property
    def where(self) -> str:
        """What a person would call it."""
        return f"{self.name}:{self.attribute}" if self.attribute or not self.file else shown(self.file)

    @property
    def short_name(self) -> str:
        """The name of the file or attribute: that of its pipeline, as a rule."""
        return self.attribute or self.name.rpartition(".")[2]

    @cached_property
    def _written(self) -> tuple[list[str], bool]:
        return pipelines_in(self.file)

    @property
    def written_names(self) -> list[str]:
        """The names of pipelines in its text. There may be others: names can be computed, and pipelines imported."""
        return self._written[0]

    @property
    def computes_names(self) -> bool:
        """Whether its text computes the name of a pipeline."""
        return self._written[1]

    @property
    def likely_names(self) -> list[str]:
        """The best that can be said about the names of its pipelines without importing it."""
        return self.written_names or [self.short_name]


def modules(settings: Settings) -> list[Module]:
    """All modules in the places that the settings name. Raises UsageError for one that Python could not import from."""
    found: dict[tuple[str, str], Module] = {}
    for place in settings.pipelines:
        root = settings.root
        for module in [_of_attribute(place, root)] if ":" in place else _in_folder(place, root):
            found.setdefault((module.name, module.attribute), module)
    return sorted(found.values(), key=lambda module: module.name)


def folder_of(place: str, project: Path) -> Path:
    """The folder that a place in the settings means."""
    return Path(os.path.normpath(project / place))


def files_in(folder: Path, project: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """The name, in parts, and the file of every module in a folder that Python can import.

    With its subfolders, except in the root of the project, where other things are. Of files in subfolders only those
    that mention a pipeline: the others are there to be imported by them.
    """
    packages = set[str]()
    for path in folders_in(folder):
        if NAME.fullmatch(path.name) and not is_shadowed(path):
            if (path / INIT).is_file():
                packages.add(path.name)
                yield (path.name,), path / INIT
            if folder != project:
                inner = files_in(path, project)
                yield from (((path.name, *parts), file) for parts, file in inner if b"Pipeline" in text_of(file))
    for file in sorted(folder.glob("*.py")):
        if NAME.fullmatch(file.stem) and not file.stem.startswith("__") and file.stem not in packages:
            yield (file.stem,), file


def is_shadowed(folder: Path) -> bool:
    """Whether Python takes a file of the same name instead of a folder."""
    return not (folder / INIT).is_file() and folder.with_name(f"{folder.name}.py").is_file()


def folders_in(folder: Path) -> list[Path]:
    """The subfolders that may hold code of this project, by name."""
    try:
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    except OSError:  # missing, or not readable
        return []
    return [path for path in inner if not (path / "pyvenv.cfg").exists() and not _leads_back(path, folder)]


def _leads_back(path: Path, folder: Path) -> bool:
    return path.is_symlink() and folder.resolve().is_relative_to(path.resolve())


def text_of(file: Path) -> bytes:
    """The beginning of a file; empty if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    except OSError:
        return b""


def _in_folder(place: str, project: Path) -> Iterator[Module]:
    folder = folder_of(place, project)
    root = _source_root(project)
    if not folder.is_relative_to(root):
        root = project
    if not folder.is_relative_to(root) or not all(map(NAME.fullmatch, folder.relative_to(root).parts)):
        root = folder.parent
    package = folder.relative_to(root).parts
    if not all(map(NAME.fullmatch, package)):
        raise UsageError(f'Python cannot import from a folder named "{folder.name}"', hint="letters, digits and _ only")
    if package and package[0] in sys.stdlib_module_names:
        text = f'Python cannot import from a folder named "{package[0]}": it has a module of that name'
        raise UsageError(text, hint="rename that folder")
    for parts, file in files_in(folder, project):
        if package or parts[0] not in sys.stdlib_module_names:
            yield Module(".".join((*package, *parts)), root, project, file)


def _of_attribute(place: str, project: Path) -> Module:
    name, _, attribute = place.partition(":")
    if not all(map(NAME.fullmatch, (*name.split("."), attribute))):
        raise UsageError(f'"{place}" names no pipeline', hint='write "package.module:attribute"')
    for root in (project, _source_root(project)):
        path = root.joinpath(*name.split("."))
        for file in (path / INIT, path.with_suffix(".py")):
            if file.is_file():
                return Module(name, root, project, file, attribute)
    return Module(name, project, project, None, attribute)


def _source_root(project: Path) -> Path:
    """The folder that packages of the project are imported from: `src` by convention, where there is one."""
    source = project / "src"
    return source if source.is_dir() and not (source / INIT).exists() else project
