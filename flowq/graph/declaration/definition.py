"""A stage or source as declared: its function, its options, and where they are in the user's code."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, NoneType, SimpleNamespace
from typing import Any, ForwardRef, get_type_hints

from typing_extensions import Format, get_annotations

from flowq.errors import Place
from flowq.graph.kinds import Shape


@dataclass(frozen=True, eq=False)
class Definition:
    """A function and its options, not yet checked. Equal only to itself: a copy is another stage."""

    fn: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    accepts_messages: bool = True
    written_at: Place | None = None  # where the user wrote it, if not where the function is

    @property
    def name(self) -> str:
        """The option `name`, else the name of the function or of the class whose instance is called."""
        return self.options.get("name") or name_of(self.fn)

    @property
    def qualname(self) -> str:
        """The dotted name within the module; it contains "<" if the function cannot be imported by name."""
        function = function_under(self.fn)
        return function.__qualname__ if function else name_of(self.fn)

    @property
    def place(self) -> Place:
        return self.written_at or place_of(self.fn)

    @property
    def returns_nothing(self) -> bool:
        """Whether the function is annotated with `-> None`: a sink."""
        function = function_under(self.fn)
        if function is None:
            return False
        returned = get_annotations(function, format=Format.FORWARDREF).get("return", "")
        written = returned.__forward_arg__ if isinstance(returned, ForwardRef) else returned
        return written in (None, "None", type(None))


def function_under(fn: Any) -> FunctionType | None:
    """The Python function beneath bound methods, partials, wrappers and `__call__`.

    None for builtins and classes: they have no annotations to read.
    """
    while not inspect.isfunction(fn) or hasattr(fn, "__wrapped__"):
        if isinstance(fn, functools.partial):
            fn = fn.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
        elif inspect.isfunction(call := type(fn).__call__):  # an instance of a class with __call__
            fn = call
        else:
            return None
    return fn


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a function, annotations as written. Raises TypeError or ValueError for some builtins."""
    if sys.version_info >= (3, 14):
        import annotationlib

        # Otherwise a single annotation that only a type checker can resolve would hide all parameters.
        return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(fn)


def evaluated(fn: Callable[..., Any], annotation: Any) -> Any:
    """An annotation of a function as a type. Raises NameError, TypeError or others if only a checker can read it."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    type_ = get_type_hints(holder, getattr(function_under(fn), "__globals__", {}), include_extras=True)["it"]
    return None if type_ is NoneType else type_


def shape_of(fn: Any) -> Shape:
    """How a function returns its outputs.

    >>> shape_of(lambda message: message)
    <Shape.FUNCTION: 'function'>
    """
    # A plain wrapper returns whatever the function beneath it returns, so the latter is checked last.
    for function in (fn, type(fn).__call__, function_under(fn)):
        if inspect.isasyncgenfunction(function):
            return Shape.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(function):
            return Shape.COROUTINE
        if inspect.isgeneratorfunction(function):
            return Shape.GENERATOR
    return Shape.FUNCTION


def name_of(fn: Callable[..., Any]) -> str:
    """The name of a function, a partial or a callable instance."""
    if isinstance(fn, functools.partial):
        return name_of(fn.func)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return getattr(fn, "__name__", None) or type(fn).__name__


def place_of(fn: Callable[..., Any]) -> Place:
    """Where a function starts, including its decorators."""
    function = function_under(fn)
    if function is None:
        return Place(getattr(fn, "__module__", None) or "?", 0)
    return place_at(function.__code__.co_filename, function.__code__.co_firstlineno)


def place_at(file: str, line: int) -> Place:
    """A place. Its file is relative to the current directory if it is inside."""
    try:
        return Place(str(Path(file).relative_to(Path.cwd())), line)
    except (ValueError, OSError):
        return Place(file, line)
