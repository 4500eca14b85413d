"""What is read from the function of a stage, and the errors when it cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Annotated, Any, Never

import pytest
from pydantic import BaseModel

from flowq import Context, Pipeline, PipelineError, resource, source, stage, use
from flowq.errors import Problem
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.kinds import Shape


class Page(BaseModel):
    url: str


class Doc(BaseModel):
    url: str


class Socket: ...


class Incomplete(BaseModel):
    other: Undefined  # noqa: F821


SomeDoc = Annotated[Doc, "some"]


@resource
def database() -> Iterator[str]:
    yield "db"


def compiled(target: Any) -> StagePlan:
    return Pipeline("p", target).plan.stages[0]


def problems_of(*targets: Any) -> list[Problem]:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p", *targets)
    return list(caught.value.problems)


def codes_of(*targets: Any) -> list[str]:
    return [problem.code for problem in problems_of(*targets)]


def one(page: Page) -> Doc: ...
def optional(page: Page) -> Doc | None: ...
def many(page: Page) -> list[Doc]: ...
def unioned(page: Page) -> Doc | Page: ...
def unioned_list(page: Page) -> list[Doc | Page]: ...
def iterated(page: Page) -> Iterator[Doc | None]: ...
def generated(page: Page) -> Generator[Doc, None, None]: ...
def handed_through(page: Page) -> Coroutine[Any, Any, list[Doc]]: ...
def nothing(page: Page) -> None: ...
def never(page: Page) -> Never: ...
def list_as_message(page: Page) -> list[list[int]]: ...
def annotated(page: Page) -> SomeDoc: ...
async def one_async(page: Page) -> Doc | None: ...
async def many_async(page: Page) -> list[Doc]: ...
async def generated_async(page: Page) -> AsyncIterator[Doc]:
    yield Doc(url="")


@pytest.mark.parametrize(
    ("fn", "emits", "returns_list", "shape"),
    [
        (one, (Doc,), False, Shape.FUNCTION),
        (optional, (Doc,), False, Shape.FUNCTION),
        (many, (Doc,), True, Shape.FUNCTION),
        (unioned, (Doc, Page), False, Shape.FUNCTION),
        (unioned_list, (Doc, Page), True, Shape.FUNCTION),
        (iterated, (Doc,), False, Shape.GENERATOR),
        (generated, (Doc,), False, Shape.GENERATOR),
        (handed_through, (Doc,), True, Shape.COROUTINE),
        (nothing, (), False, Shape.FUNCTION),
        (never, (), False, Shape.FUNCTION),
        (list_as_message, (list[int],), True, Shape.FUNCTION),
        (annotated, (Doc,), False, Shape.FUNCTION),
        (one_async, (Doc,), False, Shape.COROUTINE),
        (many_async, (Doc,), True, Shape.COROUTINE),
        (generated_async, (Doc,), False, Shape.ASYNC_GENERATOR),
    ],
)
def test_the_return_annotation_says_what_one_message_is(
    fn: Any, emits: tuple[Any, ...], returns_list: bool, shape: Shape
) -> None:
    plan = compiled(stage(fn))
    assert (plan.emits, plan.handler.returns_list, plan.handler.shape) == (emits, returns_list, shape)


def iterable(page: Page) -> Iterable[Doc]: ...
def optional_list(page: Page) -> list[Doc] | None: ...
def bare_iterator(page: Page) -> Iterator: ...
def generator_of_one(page: Page) -> Doc:
    yield Doc(url="")


async def iterator_async(page: Page) -> Iterator[Doc]: ...
async def generator_of_one_async(page: Page) -> Doc:
    yield Doc(url="")


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (iterable, "Iterator[...]"),
        (optional_list, "list[...], and return an empty list for none"),
        (bare_iterator, "Iterator[...]"),
        (generator_of_one, "Iterator[...]"),
        (iterator_async, "list[...]"),
        (generator_of_one_async, "AsyncIterator[...]"),
    ],
)
def test_a_return_annotation_that_may_mean_one_or_many_is_refused(fn: Any, remedy: str) -> None:
    [problem] = problems_of(stage(fn) >> stage(nothing))
    assert problem.code == "FQ107"
    assert remedy in problem.hint


def test_a_batch_takes_the_items_of_its_list() -> None:
    @stage(batch=10)
    def store(pages: list[Page | Doc]) -> list[Doc]: ...

    plan = compiled(store)
    assert (plan.accepted, plan.emits) == ((Page, Doc), (Doc,))


def test_a_batch_needs_a_list_parameter_and_gives_many() -> None:
    def not_a_list(page: Page) -> None: ...
    def gives_one(pages: list[Page]) -> Doc: ...

    [takes, gives] = problems_of(stage(batch=2)(not_a_list), stage(batch=2)(gives_one))
    assert (takes.code, gives.code) == ("FQ106", "FQ106")
    assert "list[Page]" in takes.hint
    assert "list[Doc]" in gives.hint


def test_resources_and_the_context_are_found_by_default_and_by_type() -> None:
    @stage
    async def store(page: Page, db: str = use(database), *, ctx: Context, limit: int = 3) -> None: ...

    handler = compiled(store).handler
    assert handler.resources == {"db": database}
    assert handler.context_parameter == "ctx"


def test_a_context_may_be_optional() -> None:
    @stage
    async def store(page: Page, ctx: Context | None = None) -> None: ...

    assert compiled(store).handler.context_parameter == "ctx"


def test_a_resource_type_only_a_checker_can_see_does_no_harm() -> None:
    @stage
    async def store(page: Page, db: OnlyForCheckers = use(database)) -> None: ...  # noqa: F821

    assert compiled(store).handler.resources == {"db": database}


def test_a_default_whose_type_only_a_checker_can_see_does_no_harm() -> None:
    @stage
    async def store(page: Page, limit: OnlyForCheckers = 3) -> None: ...  # noqa: F821

    assert compiled(store).handler.context_parameter is None


def test_a_parameter_that_nothing_fills_is_reported() -> None:
    @stage
    async def store(page: Page, db: str) -> None: ...

    [problem] = problems_of(store)
    assert problem.code == "FQ110"
    assert '"db"' in problem.text


def test_the_parameter_of_a_resource_that_nothing_fills_is_reported() -> None:
    def pool(url: str) -> Iterator[str]:
        yield url

    @resource
    def session(pool: str = use(resource(pool))) -> str:
        return pool

    @stage
    async def store(page: Page, db: str = use(session)) -> None: ...

    [problem] = problems_of(store)
    assert problem.code == "FQ110"
    assert problem.text == 'resource pool: nothing fills parameter "url"'


def test_parameters_of_a_source_are_given_when_it_runs() -> None:
    @source
    def pages(url: str, depth: int = 1, db: str = use(database)) -> Iterator[Page]:
        yield Page(url=url)

    assert compiled(pages).handler.resources == {"db": database}


def test_a_source_has_no_context() -> None:
    @source
    def pages(ctx: Context) -> Iterator[Page]:
        yield Page(url="")

    assert codes_of(pages) == ["FQ110"]


def no_parameters() -> None: ...
def only_keywords(*, page: Page) -> None: ...
def only_resource(db: str = use(database)) -> None: ...
def only_context(ctx: Context) -> None: ...


class Holder:
    def method(self, page: Page) -> None: ...


@pytest.mark.parametrize("fn", [no_parameters, only_keywords, only_resource, only_context, Holder.method, Holder])
def test_a_stage_without_a_message_parameter_is_reported(fn: Callable[..., Any]) -> None:
    assert codes_of(stage(fn))[0] == "FQ108"


def test_a_bound_method_has_no_self_to_complain_about() -> None:
    assert compiled(stage(Holder().method)).accepted == (Page,)


def no_annotation(page) -> None: ...
def no_return(page: Page): ...
def unknown_type(page: Misspelt) -> None: ...  # noqa: F821
def unknown_return(page: Page) -> list[Misspelt]: ...  # noqa: F821
def incomplete(page: Incomplete) -> None: ...
def takes_none(page: None) -> None: ...
def socket(page: Socket) -> None: ...
def gives_socket(page: Page) -> Socket: ...


@pytest.mark.parametrize(
    "fn", [no_annotation, no_return, unknown_type, unknown_return, takes_none, incomplete, socket, gives_socket]
)
def test_a_type_that_is_missing_unknown_or_no_message_is_one_problem_with_a_remedy(fn: Any) -> None:
    [problem] = problems_of(stage(fn))
    assert problem.code == "FQ107"
    assert problem.hint
    assert problem.place is not None


def test_an_unknown_type_causes_no_second_report_downstream() -> None:
    assert codes_of(stage(one) >> stage(unknown_type)) == ["FQ107"]
    assert codes_of(stage(unknown_return) >> stage(nothing)) == ["FQ107"]


def test_a_type_defined_inside_a_function_is_named_in_the_report() -> None:
    class Local(BaseModel): ...

    def takes_local(item: Local) -> None: ...

    [problem] = problems_of(stage(takes_local))
    assert "Local" in problem.text
    assert "module level" in problem.hint


def test_types_that_go_by_one_name_cannot_be_told_apart() -> None:
    namesake = type("Doc", (BaseModel,), {})

    def both(message: Doc) -> None: ...

    both.__annotations__["message"] = Doc | namesake
    [problem] = problems_of(stage(both))
    assert problem.code == "FQ107"
    assert '"Doc"' in problem.text


def test_a_builtin_is_reported_and_not_crashed_on() -> None:
    assert codes_of(stage(print))[0] in ("FQ107", "FQ108")
    assert "FQ107" in codes_of(stage(len))
    assert codes_of(stage(max)) == ["FQ107"]
    assert compiled(counted).handler.resources == {"size": resource_of_a_builtin}


resource_of_a_builtin = resource(dict[str, int])


@stage
def counted(page: Page, size: dict[str, int] = use(resource_of_a_builtin)) -> None: ...
