"""Flows: what `>>` and `|` build. Each operator is one line on a frozen Wiring; the compiler reads it.

The types follow what four type checkers agree on. Three things look odd but are intended: `_accept` and `_into` exist
for type checkers only, and accept `In | None`, so that a handler may return None (filtered) and still feed the next
stage; `Accepts` and `Into` are protocols, so that one parameter covers stages, flows and sinks; a flow that ends in a
sink has the output type Never, which disappears from every union.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar, cast, overload

from flowq.errors import PipelineError, Problem
from flowq.graph.declaration.definition import Definition, place_of

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
In2 = TypeVar("In2")
Out2 = TypeVar("Out2")
X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Join:
    """Every output of each origin goes to the one of the targets that accepts its type."""

    origins: tuple[Definition, ...]
    targets: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Wiring:
    """Stages and how they are joined.

    `heads` accept what is fed to the flow: each gets all of it, and the stages of a head share it by type. `tails` emit
    what leaves the flow.
    """

    heads: tuple[tuple[Definition, ...], ...]
    tails: tuple[Definition, ...]
    joins: tuple[Join, ...] = ()

    @classmethod
    def choice(cls, *stages: Definition) -> Wiring:
        return cls(heads=(stages,), tails=stages)

    @classmethod
    def side_by_side(cls, wirings: Sequence[Wiring]) -> Wiring:
        return cls(
            heads=tuple(head for wiring in wirings for head in wiring.heads),
            tails=tuple(tail for wiring in wirings for tail in wiring.tails),
            joins=tuple(join for wiring in wirings for join in wiring.joins),
        )

    def then(self, other: Wiring) -> Wiring:
        between = tuple(Join(self.tails, head) for head in other.heads)
        return Wiring(self.heads, other.tails, self.joins + between + other.joins)

    def definitions(self) -> Iterator[Definition]:
        """All stages in the order in which they are written, with repetitions."""
        for head in self.heads:
            yield from head
        for join in self.joins:
            yield from join.origins
            yield from join.targets
        yield from self.tails


class Accepts(Protocol[In]):
    """Anything that accepts messages of type In."""

    def _accept(self, message: In, /) -> object: ...


class Into(Protocol[In, Out]):
    """Anything that accepts messages of type In and emits messages of type Out."""

    def _into(self, message: In, /) -> Out: ...


class Target(Generic[In]):
    """Anything that can be wired: stages, sources, and what the operators return."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(dict.fromkeys(d.name for d in self.wiring.definitions()))}>"

    if TYPE_CHECKING:

        def _accept(self, message: In | None, /) -> object: ...


class Sink(Target[In]):
    """A flow that ends here: it accepts messages and emits none."""

    def __rrshift__(self, other: Sequence[Flow[X, In | None]], /) -> Sink[X]:
        return cast("Sink[X]", _joined(other, self))

    if TYPE_CHECKING:

        def _into(self, message: In | None, /) -> Never: ...

    else:
        # A type checker rejects `store >> x`. Without one, the compiler reports it with all other problems.
        def __rshift__(self, other: Any, /) -> Any:
            return _joined(self, other)


class Flow(Target[In], Generic[In, Out]):
    """A flow from messages of type In to messages of type Out: what `a >> b` returns.

    >>> from flowq import stage
    >>> @stage
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> @stage
    ... def show(number: int) -> None:
    ...     print(number)
    >>> double >> show
    <Sink double show>
    """

    @overload
    def __rshift__(self, other: Into[Out, Never], /) -> Sink[In]: ...  # type: ignore[overload-overlap]
    @overload
    def __rshift__(self, other: Into[Out, X], /) -> Flow[In, X]: ...
    @overload
    def __rshift__(self, other: Sequence[Into[Out, X]], /) -> Flow[In, X]: ...
    @overload
    def __rshift__(self, other: Sequence[Accepts[Out]], /) -> Sink[In]: ...
    def __rshift__(self, other: Any, /) -> Any:
        return _joined(self, other)

    def __rrshift__(self, other: Sequence[Flow[X, In | None]], /) -> Flow[X, Out]:
        return cast("Flow[X, Out]", _joined(other, self))

    if TYPE_CHECKING:

        def _into(self, message: In | None, /) -> Out: ...


def wiring_of(value: object) -> Wiring:
    """The wiring of a stage, a flow, or a tuple or list of them. Raises PipelineError for anything else."""
    wiring: Any = getattr(value, "wiring", None)
    if isinstance(wiring, Wiring):
        return wiring
    if parts := _parts(value):
        return Wiring.side_by_side([wiring_of(part) for part in parts])
    name: str = getattr(value, "__name__", None) or repr(value)
    place = place_of(value) if callable(value) else None
    hint = "decorate the function with @stage"
    raise PipelineError([Problem("FQ112", f"{name} is not a stage and cannot be wired", place, hint=hint)])


def _parts(group: object) -> Sequence[object]:
    return cast("Sequence[object]", group) if isinstance(group, (tuple, list)) else ()


def _joined(left: object, right: object) -> Sink[Any] | Flow[Any, Any]:
    wiring = wiring_of(left).then(wiring_of(right))
    return Sink(wiring) if all(tail.returns_nothing for tail in wiring.tails) else Flow(wiring)
