"""Reads the function of a stage: what it accepts, what it emits and how, and what other parameters it has."""

from __future__ import annotations

import collections.abc as abc
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Never, NoReturn, get_args, get_origin

from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from flowq.delivery.encoding.codec import check_type, tag_of
from flowq.errors import EncodeError, Problems
from flowq.graph.compilation.plan import type_name
from flowq.graph.compilation.typecheck import bare, members
from flowq.graph.declaration.context import Context
from flowq.graph.declaration.definition import Definition, evaluated, shape_of, signature_of
from flowq.graph.declaration.resource import Resource, resource_defaults
from flowq.graph.declaration.source_context import SourceContext
from flowq.graph.kinds import Shape

_ITERATORS = (abc.Iterator, abc.Generator)
_ASYNC_ITERATORS = (abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
_AWAITABLES = (abc.Coroutine, abc.Awaitable)
_MANY = (*_ITERATORS, *_ASYNC_ITERATORS, abc.Iterable)
_LISTS = (
    abc.Sequence,
    abc.MutableSequence,
    abc.Collection,
    abc.Reversible,
    abc.Container,
)  # what a list may be passed as
_UNREADABLE = (NameError, AttributeError, TypeError, SyntaxError, LookupError)
_EMPTY = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function accepts and emits.

    Types that could not be read are Any, and `output_known` is then False, so that a mistake is reported once.
    """

    shape: Shape = Shape.FUNCTION
    accepts: Any = None
    accepted: tuple[Any, ...] = ()
    emits: tuple[Any, ...] = ()
    returns_list: bool = False
    resources: Mapping[str, Resource[Any]] = field(default_factory=dict[str, Resource[Any]])
    context_parameter: str | None = None
    output_known: bool = True


def unfilled_parameters(fn: Callable[..., Any]) -> list[str]:
    """The parameters without a default, in order."""
    try:
        parameters = signature_of(fn).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is _EMPTY and p.kind not in _VARIADIC]


class SignatureReader:
    """Reads one function, and reports what cannot be used."""

    def __init__(self, definition: Definition, problems: Problems, *, batch: bool = False) -> None:
        self._definition = definition
        self._problems = problems
        self._batch = batch
        self._shape = shape_of(definition.fn)
        self._returns_list = False
        self._output_known = True

    def read(self) -> Signature:
        """The signature. Problems are added to those passed to the constructor."""
        if inspect.isclass(self._definition.fn):
            name = self._definition.name
            self._report("FQ108", "is a class, not a function", f"pass an instance: stage({name}())")
            return Signature(accepts=Any, accepted=(Any,), output_known=False)
        try:
            signature = signature_of(self._definition.fn)
        except (TypeError, ValueError):
            self._report("FQ107", "its parameters cannot be read", "wrap it in a function with annotations")
            return Signature(accepts=Any, accepted=(Any,), output_known=False)
        parameters = list(signature.parameters.values())
        accepts: Any = None
        if self._definition.accepts_messages:
            accepts, parameters = self._message(parameters)
        context = self._context(parameters)
        emits = self._emits(signature.return_annotation)
        if not self._definition.accepts_messages:
            self._check_emits_many()
        return Signature(
            shape=self._shape,
            accepts=accepts,
            accepted=members(accepts),
            emits=emits,
            returns_list=self._returns_list,
            resources=resource_defaults(self._definition.fn),
            context_parameter=context,
            output_known=self._output_known,
        )

    def _report(self, code: str, text: str, hint: str) -> None:
        self._problems.add(code, f"{self._definition.name}: {text}", self._definition.place, hint=hint)

    def _message(self, parameters: list[inspect.Parameter]) -> tuple[Any, list[inspect.Parameter]]:
        """The type of one message, and the parameters after it."""
        first = parameters[0] if parameters else None
        if (
            first is None
            or first.kind in (*_VARIADIC, inspect.Parameter.KEYWORD_ONLY)
            or isinstance(first.default, Resource)
        ):
            self._report("FQ108", "has no parameter for the message", "make the message its first parameter")
            return Any, parameters
        if first.name in ("self", "cls") and first.annotation is _EMPTY:
            self._report(
                "FQ108",
                f'its first parameter is "{first.name}", not the message',
                "decorate the bound method: stage(obj.method)",
            )
            return Any, []
        annotation = self._resolved(first.annotation, f'parameter "{first.name}"')
        if annotation is Context:
            self._report("FQ108", "has a Context but no message", "make the message its first parameter")
            return Any, parameters
        if self._batch:
            annotation = self._item(first.name, annotation)
        if not members(annotation):
            self._report("FQ107", f'parameter "{first.name}" is None, which is not a message', "name its type")
        self._check_messages(members(annotation), f'parameter "{first.name}"')
        return annotation, parameters[1:]

    def _item(self, parameter: str, annotation: Any) -> Any:
        annotation = bare(annotation)
        if get_origin(annotation) is list:
            return get_args(annotation)[0]
        if annotation not in (Any, list):
            item = type_name(get_args(annotation)[0] if get_args(annotation) else annotation)
            self._report(
                "FQ106",
                f'batch=... needs a list, but parameter "{parameter}" is {type_name(annotation)}',
                f"write {parameter}: list[{item}], or leave batch out",
            )
        return Any

    def _context(self, parameters: list[inspect.Parameter]) -> str | None:
        """The name of the parameter for the Context. Reports parameters that nothing fills."""
        context: str | None = None
        for parameter in parameters:
            if parameter.kind in _VARIADIC or isinstance(parameter.default, Resource):
                continue
            if (kind := self._context_kind(parameter)) is not None:
                context = parameter.name
                if kind is Context and not self._definition.accepts_messages:
                    hint = f"write {context}: SourceContext[...], or drop it"
                    self._report("FQ110", "a source has no delivery, so no Context", hint)
                elif kind is SourceContext and self._definition.accepts_messages:
                    hint = f"write {context}: Context"
                    self._report("FQ110", "only a source has a SourceContext", hint)
            elif not self._definition.accepts_messages:
                if parameter.annotation is not _EMPTY:  # arguments on the command line are converted to it
                    self._resolved(parameter.annotation, f'parameter "{parameter.name}"')
            elif parameter.default is _EMPTY:
                self._report(
                    "FQ110",
                    f'nothing fills parameter "{parameter.name}"',
                    f"{parameter.name}=use(resource), another default, or Context, imported at module level",
                )
        return context

    def _check_emits_many(self) -> None:
        emits_many = self._shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
        if self._output_known and not emits_many and not (self._returns_list and self._shape is Shape.FUNCTION):
            many = "AsyncIterator" if self._shape is Shape.COROUTINE else "Iterator"
            self._report("FQ107", "a source emits its messages one by one", f"yield them, and write -> {many}[...]")

    def _context_kind(self, parameter: inspect.Parameter) -> type | None:
        """Context or SourceContext if the parameter is for one of them, else None."""
        kinds = _NAMED if self._definition.accepts_messages else (*_NAMED, inspect.Parameter.POSITIONAL_ONLY)
        if parameter.annotation is _EMPTY or parameter.kind not in kinds:
            return None
        try:
            types = members(self._evaluated(parameter.annotation))
        except _UNREADABLE:  # an annotation that only a type checker can read is not a context
            return None
        origins = [get_origin(type_) or type_ for type_ in types]
        return next((kind for kind in (Context, SourceContext) if origins == [kind]), None)

    def _emits(self, annotation: Any) -> tuple[Any, ...]:
        returned = bare(self._resolved(annotation, "return value", hint=self._how_to_annotate()))
        if not self._output_known:
            return ()
        origin, arguments = get_origin(returned) or returned, get_args(returned)
        if self._shape is Shape.FUNCTION and origin in _AWAITABLES and arguments:
            self._shape, returned = Shape.COROUTINE, bare(arguments[-1])
            origin, arguments = get_origin(returned) or returned, get_args(returned)
        if origin in self._many() and arguments:
            self._shape = Shape.ASYNC_GENERATOR if origin in _ASYNC_ITERATORS else Shape.GENERATOR
            returned = arguments[0]
        elif self._shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR) or self._is_ambiguous(returned):
            return self._unusable(returned)
        elif origin is list:
            self._returns_list, returned = True, arguments[0] if arguments else Any
        elif self._batch and returned is not None and members(returned):
            return self._unusable_in_batch(returned)
        if returned in (NoReturn, Never):
            return ()
        types = members(returned)
        self._check_messages(types, "return value")
        return types

    def _how_to_annotate(self) -> str:
        yields = self._shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
        if yields or not self._definition.accepts_messages:
            iterator = "AsyncIterator" if self._shape.is_async else "Iterator"
            return f"write -> {iterator}[...] with the type of what it yields"
        return "write -> and the type of what it returns; -> None if it returns nothing"

    def _many(self) -> tuple[Any, ...]:
        match self._shape:
            case Shape.COROUTINE:
                return ()
            case Shape.ASYNC_GENERATOR:
                return _ASYNC_ITERATORS
            case Shape.GENERATOR:
                return _ITERATORS
            case Shape.FUNCTION:
                return (*_ITERATORS, *_ASYNC_ITERATORS)

    def _is_ambiguous(self, returned: Any) -> bool:
        """Whether this may be one message or many: an Iterable, or a list that may be missing."""
        types = members(returned)
        origins = [_origin(type_) for type_ in types]
        alone = types == (returned,)
        return any(origin in (*_MANY, *_LISTS) or (origin is list and not alone) for origin in origins)

    def _unusable(self, returned: Any) -> tuple[Any, ...]:
        self._output_known = False
        many = "AsyncIterator" if self._shape is Shape.ASYNC_GENERATOR else "Iterator"
        instead = (
            "list[...], and return an empty list for none"
            if self._shape is Shape.COROUTINE or any(_origin(member) in (list, *_LISTS) for member in members(returned))
            else f"{many}[...], with the type of one message"
        )
        self._report("FQ107", f"-> {_written(returned)} does not say what one message is", f"write -> {instead}")
        return ()

    def _unusable_in_batch(self, returned: Any) -> tuple[Any, ...]:
        self._output_known = False
        written = _written(returned)
        self._report("FQ106", f"a batch handler returns many messages, not -> {written}", f"write -> list[{written}]")
        return ()

    def _resolved(self, annotation: Any, of: str, *, hint: str = "") -> Any:
        """An annotation as a type; Any, and a problem, if there is none or it cannot be evaluated."""
        if annotation is _EMPTY:
            self._report("FQ107", f"the {of} has no type", hint or "annotate it with the type of the message")
        else:
            try:
                return self._evaluated(annotation)
            except _UNREADABLE as error:
                hint = "define or import it at module level, not inside a function or under `if TYPE_CHECKING:`"
                self._report("FQ107", f"the type of the {of} cannot be resolved: {error}", hint)
        if of == "return value":
            self._output_known = False
        return Any

    def _evaluated(self, annotation: Any) -> Any:
        return evaluated(self._definition.fn, annotation)

    def _check_messages(self, types: tuple[Any, ...], of: str) -> None:
        """Each type must be writable as JSON, and have a name that none of the others has."""
        for type_ in types:
            try:
                check_type(type_)
            except EncodeError as error:
                self._report("FQ107", f"{of}: {error.message}", error.hint)
            except (PydanticUserError, PydanticUndefinedAnnotation) as error:
                self._report("FQ107", f"{of}: {str(error).splitlines()[0]}", "complete the definition of the model")
        tags = [tag_of(type_) for type_ in types]
        if twice := {tag for tag in tags if tags.count(tag) > 1}:
            self._report("FQ107", f'{of}: two types have the name "{min(twice)}"', "rename one of the types")


def _origin(type_: Any) -> Any:
    return get_origin(bare(type_)) or bare(type_)


def _written(returned: Any) -> str:
    return type_name(returned).replace("collections.abc.", "").replace("typing.", "")
