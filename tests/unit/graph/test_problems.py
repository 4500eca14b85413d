"""Everything that can be wrong with a pipeline is reported, at once, with its place and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowq import Pipeline, PipelineError, source, stage
from tests.unit.graph.small_stages import (
    Doc,
    Link,
    clean,
    fetch,
    log,
    named,
    note,
    parse,
    plan_of,
    polish,
    problems_of,
    relink,
    routes,
    seeds,
    store,
    untyped,
)


def test_a_mismatch_shows_both_types_both_places_and_who_takes_the_rest() -> None:
    [problem] = problems_of(seeds >> fetch >> parse >> store)
    assert (problem.code, problem.text) == ("FQ103", "parse cannot feed store")
    assert problem.place == parse.definition.place
    emits, accepts, missing = problem.details
    assert emits.split() == ["parse", "emits", "Doc", "|", "Link", str(parse.definition.place)]
    assert accepts.split() == ["store", "accepts", "Doc", str(store.definition.place)]
    assert missing == "nothing accepts Link"
    assert problem.hint == "send Link where it is accepted: parse >> (store | fetch)"


def test_a_mismatch_of_everything_names_the_stage_that_would_fit() -> None:
    [problem] = problems_of(seeds >> parse, fetch >> parse >> note)
    assert problem.hint == "send Link where it is accepted: seeds >> fetch"


def test_a_mismatch_that_no_stage_accepts_asks_for_a_stage() -> None:
    [problem] = problems_of(seeds >> store)
    assert problem.hint == "no stage of this pipeline accepts Link: add one, or change one of the two annotations"


MISMATCHES: dict[str, Callable[[], Any]] = {
    "fan of a union": lambda: parse >> (note, store),
    "fan into a flow": lambda: clean >> (store, fetch >> log),
    "route that leaves a type": lambda: parse >> (store | log),
    "merge of which one does not fit": lambda: (clean, relink) >> store,
    "untyped output for a route": lambda: untyped >> (store | fetch),
}


@pytest.mark.parametrize("mistake", MISMATCHES)
def test_a_type_left_over_is_a_mismatch(mistake: str) -> None:
    assert {problem.code for problem in problems_of(MISMATCHES[mistake]())} == {"FQ103"}


def test_untyped_outputs_may_go_to_one_stage() -> None:
    assert routes(plan_of(untyped >> store), "untyped") == {Any: ("untyped>store",)}


@pytest.mark.parametrize("target", [clean, log, (clean, log), clean >> polish], ids=repr)
def test_a_sink_that_feeds_something_is_reported(target: Any) -> None:
    assert {problem.code for problem in problems_of(store >> target)} == {"FQ104"}


def test_sinks_that_are_merged_are_each_reported() -> None:
    found = problems_of((store, log) >> clean)
    assert [problem.code for problem in found] == ["FQ104", "FQ104"]


def test_a_source_that_is_fed_is_reported() -> None:
    [problem] = problems_of(clean >> seeds)
    assert problem.code == "FQ108"
    assert "seeds is a source" in problem.text


def test_two_stages_of_one_name_are_reported_with_both_places() -> None:
    [problem] = problems_of(clean >> named("store", polish) >> store)
    assert (problem.code, problem.place) == ("FQ101", store.definition.place)
    assert str(polish.definition.place) in problem.details[0]


def test_a_copy_with_the_same_name_is_reported_with_the_way_to_name_it() -> None:
    [problem] = problems_of(clean >> clean.options(concurrency=2) >> store)
    assert problem.code == "FQ111"
    assert 'clean.options(name="clean_2"' in problem.hint


BAD_NAMES = ["", "a b", "1st", "a-b", "../etc", "a:b", "a>b", "{a}", "a*", "naïve", "a" * 65, "a\n", None, 7]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_pipeline_with_a_bad_name_is_reported(name: Any) -> None:
    assert [problem.code for problem in problems_of(clean >> store, name=name)] == ["FQ102"]


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if name])
def test_a_stage_with_a_bad_name_is_reported(name: Any) -> None:
    assert [problem.code for problem in problems_of(named(name) >> store)] == ["FQ102"]


@pytest.mark.parametrize("name", ["a", "_", "Abc_9", "a" * 64])
def test_a_good_name_passes(name: str) -> None:
    assert Pipeline(name, named(name) >> store).plan.name == name


def test_an_empty_pipeline_is_reported() -> None:
    assert [problem.code for problem in problems_of()] == ["FQ109"]


def test_what_is_no_stage_is_reported() -> None:
    [problem] = problems_of(len)
    assert problem.code == "FQ112"
    with pytest.raises(PipelineError, match="FQ112"):
        clean >> print


NO_ALTERNATIVES = {
    "flow": (clean >> store, "without parentheses, >> comes first"),
    "group": ((clean, store), "(a, b) >> c for flows"),
    "function": (print, "@stage"),
    "nothing": (None, "@stage"),
}


@pytest.mark.parametrize(("other", "remedy"), NO_ALTERNATIVES.values(), ids=NO_ALTERNATIVES.keys())
def test_only_stages_are_alternatives(other: Any, remedy: str) -> None:
    for wrong in (lambda: clean | other, lambda: other | clean, lambda: store | other):
        with pytest.raises(PipelineError, match="FQ112") as caught:
            wrong()
        assert remedy in caught.value.problems[0].hint


def test_all_problems_are_listed_at_once() -> None:
    @stage(concurrency=0, dedup="ulr")
    def broken(link: Link, db: str) -> Iterator[Doc]: ...

    found = problems_of(seeds >> broken >> fetch, store >> clean, name="my pipeline")
    assert sorted(problem.code for problem in found) == ["FQ102", "FQ103", "FQ104", "FQ105", "FQ106", "FQ110"]


def test_every_problem_of_a_stage_has_its_place_and_a_remedy() -> None:
    @stage(concurrency=0, dedup="ulr")
    def broken(link: Link, db: str) -> Iterator[Doc]: ...

    for problem in problems_of(seeds >> broken >> fetch, store >> clean):
        assert problem.place is not None
        assert problem.place.file.endswith(("test_problems.py", "small_stages.py"))
        assert problem.place.line > 1
        assert problem.hint


def test_the_text_of_the_error_is_the_list_of_problems() -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p", seeds >> fetch >> parse >> store)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("error[FQ103]: parse cannot feed store    ")
    assert lines[-1] == "  hint: send Link where it is accepted: parse >> (store | fetch)"


def _numbers():  # type: ignore[no-untyped-def]
    yield 1


async def _numbers_awaited():  # type: ignore[no-untyped-def]
    yield 1


def _split(link: Link):  # type: ignore[no-untyped-def]
    yield link


async def _split_awaited(link: Link):  # type: ignore[no-untyped-def]
    yield link


def _number(link: Link):  # type: ignore[no-untyped-def]
    return 1


@pytest.mark.parametrize(
    ("target", "annotation"),
    [
        (source(_numbers), "-> Iterator[...]"),
        (source(_numbers_awaited), "-> AsyncIterator[...]"),
        (stage(_split), "-> Iterator[...]"),
        (stage(_split_awaited), "-> AsyncIterator[...]"),
        (stage(_number), "-> None if it returns nothing"),
    ],
)
def test_a_function_without_a_type_is_answered_with_the_one_that_fits(target: Any, annotation: str) -> None:
    [problem] = [found for found in problems_of(target) if "the return value has no type" in found.text]

    assert annotation in problem.hint
