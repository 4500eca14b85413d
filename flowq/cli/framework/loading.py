"""Finds a pipeline by its name and imports the module that defines it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flowq.cli.framework.error_screen import UserCodeFailed, shown
from flowq.cli.framework.ignored import NAME, ignored_as, modules_in
from flowq.errors import NotFound, PipelineError, UsageError, did_you_mean

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline
    from flowq.settings import Settings


class NoPipeline(UsageError):
    """A module that defines no pipeline, such as one of shared helpers."""

    code = "FQ204"


@dataclass(frozen=True, slots=True)
class Entry:
    """A pipeline that could be loaded: the module that defines it, to be imported with `root` on `sys.path`.

    `project` is the root of the project: it goes on `sys.path` as well, so that pipelines can import their neighbours.
    Known are either the file of the module or the attribute that holds the pipeline.
    """

    name: str
    module: str
    root: Path
    project: Path
    file: Path | None = None
    attribute: str = ""

    @property
    def where(self) -> str:
        """What a person would call it."""
        return shown(self.file) if self.file else f"{self.module}:{self.attribute}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pipeline, and where other processes find it: `attribute` of `module`, imported from `root`."""

    pipeline: Pipeline
    file: Path
    module: str
    attribute: str
    root: Path


def load(name: str, settings: Settings) -> Loaded:
    """Import the pipeline of that name, with what is set for its stages.

    Raises UsageError for something that is no name, NotFound with the nearest names, UserCodeFailed for an
    exception in the file, PipelineError for a pipeline that is wired wrongly, SettingsError for what is set wrongly.
    """
    return load_entry(find(name, settings), settings)


def find(name: str, settings: Settings) -> Entry:
    """The pipeline of that name, not yet imported. Raises UsageError and NotFound as `load` does."""
    known = {entry.name: entry for entry in entries(settings)}
    if name not in known and (file := ignored_as(name, settings)):
        raise NotFound(f'there is no pipeline "{name}"', hint=str(file))
    if not NAME.fullmatch(name):
        hint = did_you_mean(name, known, "the name alone: scrape for pipelines/scrape.py  (flowq ls)")
        raise UsageError(f'"{name}" is not the name of a pipeline', hint=hint)
    if name not in known:
        where = ", ".join(place if ":" in place else _folder(place, settings) for place in settings.pipelines)
        raise NotFound(f'no pipeline "{name}" in {where}', hint=f"{did_you_mean(name, known)}  (flowq ls)".lstrip())
    settings.check_pipelines(known)
    return known[name]


def _folder(place: str, settings: Settings) -> str:
    path = shown(Path(os.path.normpath(settings.root / place)))
    return path if Path(path).is_absolute() else f"./{path}"


def entries(settings: Settings) -> list[Entry]:
    """Every pipeline by the names of files and settings alone: nothing is imported.

    Raises UsageError for a place that Python could not import from.
    """
    found: dict[str, Entry] = {}
    for place in settings.pipelines:
        for entry in [_attribute_entry(place, settings.root)] if ":" in place else _file_entries(place, settings.root):
            found.setdefault(entry.name, entry)
    return sorted(found.values(), key=lambda entry: entry.name)


def load_entry(entry: Entry, settings: Settings | None = None) -> Loaded:
    """Import one of the `entries`. Raises NoPipeline if there is none, else as `load` does."""
    module = _imported(entry)
    attribute, pipeline = _chosen(entry, _pipelines_of(module))
    if settings is not None:
        pipeline = settings.tuned(entry.name, pipeline)
    return Loaded(pipeline, Path(module.__file__ or entry.module), entry.module, attribute, entry.root)


def _chosen(entry: Entry, pipelines: Mapping[str, Pipeline]) -> tuple[str, Pipeline]:
    """The attribute that was asked for; in a file, the pipeline with the same name, else the only one."""
    found = {id(pipeline): (attribute, pipeline) for attribute, pipeline in pipelines.items()}
    if entry.attribute:
        choices = [choice for choice in pipelines.items() if choice[0] == entry.attribute]
    else:
        choices = [choice for choice in found.values() if choice[1].name == entry.name] or list(found.values())
    if not choices:
        hint = f'{entry.name} = Pipeline("{entry.name}", first >> second)'
        raise NoPipeline(f"{entry.where} defines no pipeline", hint=hint)
    if len(choices) > 1:
        names = ", ".join(pipeline.name for _, pipeline in choices)
        hint = f'name one of them "{entry.name}", or add "{entry.module}:{choices[0][0]}" to the setting "pipelines"'
        raise UsageError(f'{entry.where} defines {names}, but no "{entry.name}"', hint=hint)
    return choices[0]


def _file_entries(place: str, project: Path) -> Iterator[Entry]:
    folder = Path(os.path.normpath(project / place))
    root = project
    if not folder.is_relative_to(project) or not all(map(NAME.fullmatch, folder.relative_to(project).parts)):
        root = folder.parent
    package = folder.relative_to(root).parts
    if not all(map(NAME.fullmatch, package)):
        raise UsageError(f'Python cannot import from a folder named "{folder.name}"', hint="letters, digits and _ only")
    for name, file in modules_in(folder):
        yield Entry(name, ".".join((*package, name)), root, project, file)


def _attribute_entry(place: str, project: Path) -> Entry:
    module, _, attribute = place.partition(":")
    if not all(map(NAME.fullmatch, (*module.split("."), attribute))):
        raise UsageError(f'"{place}" names no pipeline', hint='write "package.module:attribute"')
    return Entry(attribute, module, project, project, attribute=attribute)


def _imported(entry: Entry) -> ModuleType:
    """The module by its real name: worker processes and pickles know no other way to it."""
    for path in (str(entry.root), str(entry.project)):
        if path not in sys.path:
            sys.path.insert(0, path)
    try:
        spec = find_spec(entry.module)
        if entry.file is None or (spec and spec.origin and Path(spec.origin).samefile(entry.file)):
            with contextlib.redirect_stdout(sys.stderr):  # what a module prints is not our data
                return importlib.import_module(entry.module)
    except (PipelineError, KeyboardInterrupt):
        raise
    except BaseException as error:
        what = shown(entry.file) if entry.file else entry.module
        raise UserCodeFailed(f"{what} cannot be imported", hint=_hint(error)) from error
    raise UsageError(
        f"{entry.where} cannot be imported: Python imports {entry.module} from {spec.origin if spec else 'nowhere'}",
        hint=f"add an empty __init__.py to {shown(entry.file.parent)}, or rename that folder",
    )


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"is {error.name.partition('.')[0]} installed for {sys.executable}?"
    return ""


def _pipelines_of(module: ModuleType) -> Mapping[str, Pipeline]:
    from flowq.graph.pipeline import Pipeline

    return {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}
