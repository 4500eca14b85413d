"""Stages and sources: a decorated function stays usable as a function, and describes how it runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from flowq import Pipeline, PipelineError, Source, Stage, source, stage
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.declaration.stage import SinkStage
from flowq.graph.kinds import Kind, Placement, Shape


def compiled(target: Any) -> StagePlan:
    return Pipeline("p", target).plan.stages[0]


def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


async def double_async(number: int) -> int:
    return 2 * number


def show(number: int) -> None: ...


def up_to(number: int) -> Iterator[int]:
    yield from range(number)


async def up_to_async(number: int) -> AsyncIterator[int]:
    for value in range(number):
        yield value


def hands_through(number: int) -> Iterator[int]:
    return iter(range(number))


def hands_through_async(number: int) -> AsyncIterator[int]:
    return up_to_async(number)


class Multiplier:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number

    async def times(self, number: int) -> int:
        return self.factor * number


class Sink:
    async def __call__(self, number: int) -> None: ...


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def scaled(number: int, factor: int) -> int:
    return number * factor


def test_calling_a_stage_calls_its_function() -> None:
    assert stage(double)(21) == 42
    assert stage(concurrency=2)(double)(21) == 42


def test_calling_a_sink_calls_its_function() -> None:
    with pytest.raises(TypeError, match="missing"):
        stage(show)()
    assert stage(show)(1) is None


async def test_calling_a_coroutine_stage_gives_its_coroutine() -> None:
    assert await stage(double_async)(21) == 42


def test_a_stage_carries_the_name_the_docstring_and_the_signature_of_its_function() -> None:
    decorated = stage(double)
    assert decorated.fn is double
    assert (decorated.name, decorated.__doc__) == ("double", "Twice as much.")
    assert inspect.signature(decorated) == inspect.signature(double)


@pytest.mark.parametrize(
    ("fn", "shape", "placement"),
    [
        (double, Shape.FUNCTION, Placement.THREAD),
        (double_async, Shape.COROUTINE, Placement.LOOP),
        (up_to, Shape.GENERATOR, Placement.THREAD),
        (up_to_async, Shape.ASYNC_GENERATOR, Placement.LOOP),
        (hands_through, Shape.GENERATOR, Placement.THREAD),
        (hands_through_async, Shape.ASYNC_GENERATOR, Placement.LOOP),
        (Multiplier(3), Shape.FUNCTION, Placement.THREAD),
        (Multiplier(3).times, Shape.COROUTINE, Placement.LOOP),
        (Sink(), Shape.COROUTINE, Placement.LOOP),
        pytest.param(logged(double_async), Shape.COROUTINE, Placement.LOOP, id="wrapped coroutine"),
        pytest.param(logged(up_to), Shape.GENERATOR, Placement.THREAD, id="wrapped generator"),
        (functools.partial(scaled, factor=3), Shape.FUNCTION, Placement.THREAD),
        (functools.partial(double_async), Shape.COROUTINE, Placement.LOOP),
    ],
)
def test_the_kind_of_a_function_decides_how_and_where_it_runs(fn: Any, shape: Shape, placement: Placement) -> None:
    handler = compiled(stage(fn)).handler
    assert (handler.shape, handler.placement) == (shape, placement)
    assert handler.call is fn


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (double, "double"),
        (Multiplier(3), "Multiplier"),
        (Multiplier(3).times, "times"),
        (functools.partial(scaled, factor=3), "scaled"),
        (logged(up_to), "up_to"),
    ],
)
def test_a_stage_is_named_after_its_function_or_class(fn: Any, name: str) -> None:
    assert compiled(stage(fn)).name == name


def test_inline_and_process_change_where_a_function_runs() -> None:
    assert compiled(stage(inline=True)(double)).handler.placement is Placement.LOOP
    assert compiled(stage(process=True)(double)).handler.placement is Placement.PROCESS


@pytest.mark.parametrize(("fn", "class_"), [(show, SinkStage), (Sink(), SinkStage), (double, Stage)])
def test_only_a_function_that_returns_none_becomes_a_sink(fn: Any, class_: type) -> None:
    assert type(stage(fn)) is class_
    assert (compiled(stage(fn)).kind is Kind.SINK) == (class_ is SinkStage)


def test_options_returns_a_copy_and_leaves_the_original_alone() -> None:
    original = stage(concurrency=3, max_bytes=10)(double)
    copy = original.options(name="twice", concurrency=7)
    assert (copy.name, compiled(copy).concurrency, compiled(copy).max_bytes) == ("twice", 7, 10)
    assert (original.name, compiled(original).concurrency) == ("double", 3)
    assert copy.fn is original.fn


def test_a_copy_stays_a_sink() -> None:
    assert type(stage(show).options(concurrency=2)) is SinkStage


def test_a_source_takes_no_messages_and_may_have_another_name() -> None:
    def numbers(count: int, start: int = 0) -> Iterator[int]:
        yield from range(start, count)

    plain, named = source(numbers), source(name="ints")(numbers)
    assert isinstance(plain, Source)
    assert list(plain(3)) == [0, 1, 2]
    plan = compiled(named)
    assert (plan.name, plan.kind, plan.accepts, plan.in_edges) == ("ints", Kind.SOURCE, None, ())
    assert plan.emits == (int,)


def test_a_function_and_options_at_once_are_refused() -> None:
    with pytest.raises(PipelineError, match="FQ106"):
        stage(double, concurrency=2)
