"""Finds what a project adds to `flowq test`, fakes of resources above all, and refuses to open real ones unasked."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from flowq.cli.framework.error_screen import UserCodeFailed, shown
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.resource import Resource

if TYPE_CHECKING:
    from flowq.testing import Harness

Fakes = Callable[[], Mapping[Resource[Any], Any]]
"""Gives the values that replace resources, new ones for each call."""

FUNCTION, CHECK = "fakes", "check"


class RealResources(UsageError):
    """Handlers would be given real resources, together with made-up messages."""

    code = "FQ224"


@dataclass(frozen=True, slots=True)
class OwnPart:
    """What a project adds to the test of a pipeline: fakes, and a check that is called with the harness at the end."""

    fakes: Fakes = dict
    check: Callable[[Harness], Any] | None = None


def find_own_part(given: str | None, pipeline: str, project: Path) -> OwnPart:
    """The function in `FILE:FUNCTION`, else `fakes` in the test of the pipeline; and `check` in the same file, if any.

    Raises UsageError for one that does not exist, UserCodeFailed for a file that cannot be imported.
    """
    if given is not None:
        name, _, function = given.partition(":")
        module = _imported(project / name)
        return OwnPart(_function_in(module, function or FUNCTION), getattr(module, CHECK, None))
    file = project / "tests" / f"test_{pipeline}.py"
    defined = _defined_in(file)
    if not {FUNCTION, CHECK} & defined:
        return OwnPart()
    module = _imported(file)
    return OwnPart(_function_in(module, FUNCTION) if FUNCTION in defined else dict, getattr(module, CHECK, None))


def require_fakes(plan: Plan, fakes: Fakes, *, with_sources: bool) -> None:
    """Raise RealResources if anything is opened that is not replaced, UserCodeFailed if the fakes cannot be made."""
    replaced = _made(fakes)
    stages = [stage for stage in plan.stages if with_sources or not stage.is_source]
    asked = [resource for stage in stages for resource in stage.handler.resources.values()]
    if real := {resource.name: resource for resource in asked for resource in _opened(resource, replaced)}:
        first = next(iter(real.values()))
        names = ", ".join(real)
        raise RealResources(
            f"the handlers of {plan.name} would get made-up messages and the real {names}",
            place=first.place,
            hint=f"write  def {FUNCTION}(): return {{{plan.name}.{first.name}: ...}}  in tests/test_{plan.name}.py, "
            "or add --with-real-resources",
        )


def _opened(resource: Resource[Any], replaced: Mapping[Resource[Any], Any]) -> Iterator[Resource[Any]]:
    if resource not in replaced:
        yield resource
        for required in resource.requires.values():
            yield from _opened(required, replaced)


def _made(fakes: Fakes) -> Mapping[Resource[Any], Any]:
    try:
        made: object = fakes()
    except Exception as error:
        raise UserCodeFailed(f"{FUNCTION}() has failed") from error
    if not _is_by_resource(made):
        raise UsageError(f"{FUNCTION}() does not return fakes", hint="a dict with resources as keys: {database: ...}")
    return made


def _is_by_resource(made: object) -> TypeGuard[Mapping[Resource[Any], Any]]:
    return isinstance(made, Mapping) and all(isinstance(key, Resource) for key in cast("Iterable[object]", made))


def _defined_in(file: Path) -> set[str]:
    """The functions of a file, without importing it: tests do not expect to be imported."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _imported(file: Path) -> ModuleType:
    spec = spec_from_file_location(f"flowq_fakes_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"there is no Python file {shown(file)}", hint="write  --fakes tests/fakes.py:fakes")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    sys.path.insert(0, str(file.parent))  # as pytest does
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except Exception as error:
        raise UserCodeFailed(f"{shown(file)} cannot be imported") from error
    return module


def _function_in(module: ModuleType, function: str) -> Fakes:
    found: object = getattr(module, function, None)
    if not callable(found):
        where = shown(Path(str(module.__file__)))
        raise UsageError(f'{where} has no function "{function}"', hint=f"write  def {function}(): return {{...}}")
    return cast("Fakes", found)
