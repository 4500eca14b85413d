"""Resources that a worker process opens once and shares among its handlers, such as clients and connections."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from flowq.errors import Place
from flowq.graph.declaration.definition import name_of, place_of, shape_of, signature_of
from flowq.graph.kinds import Shape

if TYPE_CHECKING:
    from contextlib import (
        _AsyncGeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
        _GeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
    )

T = TypeVar("T")


class Resource(Generic[T]):
    """A resource as declared by `@resource`. Nothing is opened until a worker starts.

    `fn` opens it, `requires` lists the resources that are opened before it and passed to `fn` by keyword.
    """

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.fn = fn
        self.name = name_of(fn)
        self.requires: Mapping[str, Resource[Any]] = resource_defaults(fn)

    @property
    def shape(self) -> Shape:
        """How `fn` provides the resource: a generator closes it after its yield."""
        return shape_of(self.fn)

    @property
    def place(self) -> Place:
        return place_of(self.fn)

    def __repr__(self) -> str:
        return f"<Resource {self.name}>"


@overload
def resource(fn: Callable[[], _AsyncGeneratorContextManager[T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[[], _GeneratorContextManager[T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[[], AsyncIterable[T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[[], Iterator[T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[[], Coroutine[Any, Any, T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[[], T], /) -> Resource[T]: ...
def resource(fn: Callable[[], Any], /) -> Resource[Any]:
    """Declare a resource: opened once in each worker process before its first message, closed after its last.

    `fn` is a generator function, async or not, that yields the resource once and closes it after the yield; or a
    function, async or not, that returns a resource which need not be closed. A function decorated with
    `@contextmanager` or `@asynccontextmanager` works too. A resource may use other resources:

    >>> from collections.abc import Iterator
    >>> from flowq import use
    >>> @resource
    ... def settings() -> dict[str, str]:
    ...     return {"greeting": "hello"}
    >>> @resource
    ... def greeting(settings: dict[str, str] = use(settings)) -> Iterator[str]:
    ...     yield settings["greeting"]
    >>> greeting.requires
    {'settings': <Resource settings>}
    """
    return Resource(fn)


def use(resource: Resource[T], /) -> T:
    """Ask for a resource: the default value of a parameter of a stage, a source or another resource.

    Handlers get the open resource. When you call the function yourself, pass a value of your own.

    >>> @resource
    ... def limit() -> int:
    ...     return 3
    >>> def handler(message: str, limit: int = use(limit)) -> None: ...
    """
    return cast("T", resource)


def resource_defaults(fn: Callable[..., Any]) -> dict[str, Resource[Any]]:
    """The parameters whose default is `use(...)`, with the resources that they ask for."""
    try:
        parameters = signature_of(fn).parameters
    except (TypeError, ValueError):  # a builtin
        return {}
    defaults: dict[str, Any] = {name: parameter.default for name, parameter in parameters.items()}
    return {name: default for name, default in defaults.items() if isinstance(default, Resource)}
