"""Finds a pipeline by its name and imports the module that defines it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flowq.cli.framework.error_screen import UserCodeFailed, shown
from flowq.cli.framework.ignored import ignored_as
from flowq.cli.framework.modules import NAME, Module, folder_of, modules
from flowq.cli.framework.neighbours import way_to
from flowq.errors import FlowqError, NotFound, PipelineError, SettingsError, UsageError, did_you_mean

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline
    from flowq.settings import Settings


class NoPipeline(UsageError):
    """A module that defines no pipeline, such as one of shared helpers."""

    code = "FQ204"


class SameName(UsageError):
    """Two pipelines with the same name."""

    code = "FQ215"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pipeline, and the module in which other processes find it."""

    pipeline: Pipeline
    module: Module
    file: Path

    @property
    def name(self) -> str:
        return self.pipeline.name

    def tuned(self, settings: Settings) -> Loaded:
        """The same with what is set for its stages. Raises as `Settings.tuned` does."""
        return replace(self, pipeline=settings.tuned(self.name, self.pipeline))


@dataclass(frozen=True, slots=True)
class Broken:
    """What keeps pipelines from being loaded. The names are the most likely ones if their module cannot be imported."""

    names: Sequence[str]
    where: str
    error: FlowqError


def load(name: str, settings: Settings) -> Loaded:
    """Import the pipeline of that name, with what is set for its stages.

    Raises as `find` does, PipelineError for a setting that contradicts the code, SettingsError for a wrong setting.
    """
    return find(name, settings).tuned(settings)


def find(name: str, settings: Settings) -> Loaded:
    """Import the pipeline of that name, as it is in the code.

    First the modules whose text has that name are imported, then those of that name, then all others. A module with one
    pipeline is a name for it too.

    Raises UsageError for something that is no name, NotFound with the nearest names, SameName for two of that name,
    UserCodeFailed for an exception in a file, PipelineError for a pipeline that is wired wrongly, SettingsError for
    settings of an unknown pipeline.
    """
    if not NAME.fullmatch(name):
        raise _not_found(name, (), (), settings)
    every = modules(settings)
    written = [module for module in every if name in module.written_names]
    of_file = [module for module in every if module.short_name == name and module not in written]
    others = [module for module in every if module not in written and module not in of_file]
    found, broken = _load(written)
    if not (chosen := [loaded for loaded in found if loaded.name == name]):
        _raise_first(broken)
        found, broken = _load(of_file)
        _raise_first(broken)
        chosen = [loaded for loaded in found if loaded.name == name] or (found if len(found) == 1 else [])
    if not chosen:
        others_found, broken = _load(others)
        if not (chosen := [loaded for loaded in others_found if loaded.name == name]):
            _raise_none_in(of_file, found, name)
            raise _not_found(name, {loaded.name for loaded in others_found}, broken, settings)
    _refuse_several(chosen)
    check_settings(settings)
    return chosen[0]


def load_all(settings: Settings) -> tuple[list[Loaded], list[Broken]]:
    """Every pipeline of the project, as it is in the code, and what cannot be loaded. Raises nothing for a module."""
    found, broken = _load(modules(settings))
    alone = list[Loaded]()
    for name in sorted({loaded.name for loaded in found}):
        same = [loaded for loaded in found if loaded.name == name]
        try:
            _refuse_several(same)
            alone += same
        except SameName as error:
            broken.append(Broken([name], ", ".join(shown(loaded.file) for loaded in same), error))
    return alone, sorted(broken, key=lambda one: list(one.names))


def name_of(name: str, settings: Settings) -> str:
    """The name of a pipeline, as `find` takes it; nothing is imported if it is in the text of a file."""
    if any(name in module.written_names for module in modules(settings)):
        check_settings(settings)
        return name
    return find(name, settings).name


def names(settings: Settings) -> list[str]:
    """The names of all pipelines; only modules that compute them are imported."""
    found = set[str]()
    for module in modules(settings):
        if module.computes_names:
            loaded, broken = _load([module])
            found |= {one.name for one in loaded} | {name for one in broken for name in one.names}
        else:
            found.update(module.likely_names)
    return sorted(found)


def check_settings(settings: Settings) -> None:
    """Raise SettingsError where something is set for an unknown pipeline."""
    if settings.stages:
        try:
            settings.check_pipelines(name for module in modules(settings) for name in module.written_names)
        except SettingsError:  # names can be computed, and pipelines imported from elsewhere
            found, broken = load_all(settings)
            settings.check_pipelines([*(one.name for one in found), *(name for one in broken for name in one.names)])


def load_from(module: Module, name: str) -> Loaded:
    """The pipeline of that name in a module. Raises as `find` does."""
    for loaded in _loaded(module):
        if loaded.name == name:
            return loaded
    raise NotFound(f'{module.where} no longer defines "{name}"', hint="start the run again with the new code")


def _load(some: Iterable[Module]) -> tuple[list[Loaded], list[Broken]]:
    """Each pipeline once, in the module that defines it where that is among these; modules without one are left out."""
    found: dict[int, Loaded] = {}
    broken: list[Broken] = []
    for module in some:
        try:
            loaded = _loaded(module)
        except FlowqError as error:
            broken.append(Broken(module.likely_names, module.where, error))
            continue
        for one in loaded:
            if id(one.pipeline) not in found or Path(one.pipeline.place.file).absolute() == one.file:
                found[id(one.pipeline)] = one
    return list(found.values()), broken


def _loaded(module: Module) -> list[Loaded]:
    from flowq.graph.pipeline import pipelines_among

    imported = _imported(module)
    file, names = Path(imported.__file__ or module.name), vars(imported)
    chosen = [module.attribute] if module.attribute else [name for name in names if not name.startswith("__")]
    return [Loaded(pipeline, module, file) for pipeline in pipelines_among(names.get(name) for name in chosen)]


def _raise_first(broken: Sequence[Broken]) -> None:
    if broken:
        raise broken[0].error


def _raise_none_in(of_file: Sequence[Module], found: Sequence[Loaded], name: str) -> None:
    """Raise for the name of a file that does not say which pipeline is meant."""
    if not of_file:
        return
    where = of_file[0].where
    if found:
        defined = [loaded.name for loaded in found]
        raise NotFound(f'{where} defines {", ".join(defined)}, but no "{name}"', hint="one of these names  (flowq ls)")
    hint = f'{name} = Pipeline("{name}", first >> second)'
    raise NoPipeline(f"{where} defines no pipeline", hint=hint)


def _not_found(name: str, found: Iterable[str], broken: Sequence[Broken], settings: Settings) -> FlowqError:
    known = {*found, *(name for module in modules(settings) for name in module.written_names)}
    known |= {name for one in broken for name in one.names}
    if file := ignored_as(name, settings):
        return NotFound(f'there is no pipeline "{name}"', hint=str(file))
    if not NAME.fullmatch(name):
        hint = did_you_mean(name, known, "the name alone: scrape for pipelines/scrape.py  (flowq ls)")
        return UsageError(f'"{name}" is not the name of a pipeline', hint=hint)
    if way := way_to(name, settings):
        return NotFound(f'there is no pipeline "{name}" here', hint=way)
    where = ", ".join(place if ":" in place else _folder(place, settings) for place in settings.pipelines)
    hint = f"{did_you_mean(name, known)}  (flowq ls)".lstrip()
    if broken:
        hint += f"; {broken[0].where} cannot be imported  (flowq check)"
    return NotFound(f'no pipeline "{name}" in {where}', hint=hint)


def _folder(place: str, settings: Settings) -> str:
    path = shown(folder_of(place, settings.root))
    return path if Path(path).is_absolute() else f"./{path}"


def _refuse_several(same: Sequence[Loaded]) -> None:
    if len(same) > 1:
        places = " and ".join(sorted(f"{shown(one.pipeline.place.file)}:{one.pipeline.place.line}" for one in same))
        raise SameName(f'there are two pipelines named "{same[0].name}": {places}', hint="rename one of them")


def _imported(module: Module) -> ModuleType:
    """The module by its real name: worker processes and pickles know no other way to it."""
    for path in (str(module.root), str(module.project)):
        if path not in sys.path:
            sys.path.insert(0, path)
    try:
        spec = find_spec(module.name)
        if module.file is None or (spec and spec.origin and Path(spec.origin).samefile(module.file)):
            with contextlib.redirect_stdout(sys.stderr):  # what a module prints is not our data
                return importlib.import_module(module.name)
    except (PipelineError, KeyboardInterrupt):
        raise
    except BaseException as error:
        what = shown(module.file) if module.file else module.name
        raise UserCodeFailed(f"{what} cannot be imported", hint=_hint(error)) from error
    raise UsageError(
        f"{module.where} cannot be imported: Python imports {module.name} from {spec.origin if spec else 'nowhere'}",
        hint=f"add an empty __init__.py to {shown(module.file.parent)}, or rename that folder",
    )


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"is {error.name.partition('.')[0]} installed for {sys.executable}?"
    return ""
