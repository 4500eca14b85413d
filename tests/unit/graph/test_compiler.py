"""From flows to a plan: stages, edges, routes, order, feedback, and everything that can be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import Flow, Pipeline, PipelineError, source, stage
from flowq.errors import Problem
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.flow import Sink, Target
from flowq.graph.kinds import Kind


class Link(BaseModel):
    url: str


class Page(BaseModel):
    url: str


class Doc(BaseModel):
    url: str


class Scan(Doc): ...


@source
def seeds() -> Iterator[Link]:
    yield Link(url="")


@stage(dedup="url")
async def fetch(link: Link) -> Page | None: ...
@stage
def parse(page: Page) -> Iterator[Doc | Link]: ...
@stage
def parse_scans(page: Page) -> list[Doc | Scan | Link]: ...
@stage
async def store(doc: Doc) -> None: ...
@stage
async def store_scans(scan: Scan) -> None: ...
@stage
async def log(doc: Doc) -> None: ...
@stage
async def note(message: Doc | Link) -> None: ...
@stage
def clean(doc: Doc) -> Doc: ...
@stage
def polish(doc: Doc) -> Doc: ...
@stage
def relink(doc: Doc) -> Link: ...
@stage
def untyped(page: Page) -> Any: ...


def plan_of(*flows: Target[Any]) -> Plan:
    return Pipeline("p", *flows).plan


def wires(plan: Plan) -> list[str]:
    """The edges between stages; "~" marks feedback."""
    return [edge.name + "~" * edge.feedback for edge in plan.edges if not edge.is_inlet]


def routes(plan: Plan, name: str) -> dict[Any, tuple[str, ...]]:
    return {route.type: route.edges for route in plan.stage(name).routes}


def problems_of(*flows: Any, name: str = "p") -> list[Problem]:
    with pytest.raises(PipelineError) as caught:
        Pipeline(name, *flows)
    return list(caught.value.problems)


def named(name: str, template: Any = clean) -> Any:
    return template.options(name=name)


# Wiring


def test_a_chain_has_an_edge_for_each_join_and_an_inlet_for_each_stage_that_takes_messages() -> None:
    plan = plan_of(seeds >> fetch >> parse >> note)
    assert [stage.name for stage in plan.stages] == ["seeds", "fetch", "parse", "note"]
    assert [edge.name for edge in plan.edges if edge.is_inlet] == [">fetch", ">parse", ">note"]
    assert wires(plan) == ["seeds>fetch", "fetch>parse", "parse>note"]
    assert plan.stage("fetch").in_edges == (">fetch", "seeds>fetch")
    assert plan.edge_by_name["parse>note"].types == (Doc, Link)
    assert plan.edge_by_name[">note"].types == (Doc, Link)


def test_the_kind_of_a_stage_is_what_it_takes_and_gives() -> None:
    plan = plan_of(seeds >> fetch >> parse >> note)
    assert [stage.kind for stage in plan.stages] == [Kind.SOURCE, Kind.STAGE, Kind.STAGE, Kind.SINK]


def test_a_fan_copies_every_output_to_each_target() -> None:
    plan = plan_of(clean >> (store, log))
    assert routes(plan, "clean") == {Doc: ("clean>store", "clean>log")}


def test_a_route_sends_each_type_to_the_stage_that_takes_it() -> None:
    plan = plan_of(seeds >> fetch >> parse >> (store | fetch))
    assert routes(plan, "parse") == {Doc: ("parse>store",), Link: ("parse>fetch",)}
    assert plan.edge_by_name["parse>store"].types == (Doc,)


@pytest.mark.parametrize("choice", [store | store_scans | fetch, fetch | store_scans | store])
def test_in_a_route_the_nearest_type_wins_in_any_order(choice: Target[Any]) -> None:
    plan = plan_of(parse_scans >> choice)
    assert routes(plan, "parse_scans") == {
        Doc: ("parse_scans>store",),
        Scan: ("parse_scans>store_scans",),
        Link: ("parse_scans>fetch",),
    }


def test_in_a_route_the_first_of_equals_wins() -> None:
    plan = plan_of(clean >> (log | store))
    assert routes(plan, "clean") == {Doc: ("clean>log",)}
    assert wires(plan) == ["clean>log"]


def test_a_route_and_a_fan_of_the_same_stage_add_up() -> None:
    plan = plan_of(parse >> (store | fetch), parse >> note)
    assert routes(plan, "parse") == {Doc: ("parse>store", "parse>note"), Link: ("parse>fetch", "parse>note")}


def test_a_merge_joins_every_origin_to_the_target() -> None:
    assert wires(plan_of((clean, polish) >> store)) == ["clean>store", "polish>store"]


def test_a_fan_that_continues_merges_again() -> None:
    plan = plan_of(clean >> (polish, named("shine")) >> store)
    assert sorted(wires(plan)) == ["clean>polish", "clean>shine", "polish>store", "shine>store"]


def test_a_sink_beside_other_stages_ends_there() -> None:
    plan = plan_of(clean >> (log, polish) >> store)
    assert sorted(wires(plan)) == ["clean>log", "clean>polish", "polish>store"]


def test_flows_nest_by_their_heads_and_tails() -> None:
    head = (named("one"), named("two")) >> clean
    tail = polish >> (store, log)
    assert sorted(wires(plan_of(head >> tail))) == [
        "clean>polish",
        "one>clean",
        "polish>log",
        "polish>store",
        "two>clean",
    ]


def test_a_flow_of_several_heads_gives_each_of_them_everything() -> None:
    tail = (clean, polish) >> store
    assert routes(plan_of(named("one") >> tail), "one") == {Doc: ("one>clean", "one>polish")}


def test_a_connection_written_twice_is_one_edge() -> None:
    plan = plan_of(clean >> (store, store), clean >> store, clean >> polish >> store)
    assert sorted(wires(plan)) == ["clean>polish", "clean>store", "polish>store"]
    assert routes(plan, "clean") == {Doc: ("clean>store", "clean>polish")}


@pytest.mark.parametrize("single", [store, seeds, clean, store | fetch])
def test_a_single_stage_source_or_choice_is_a_flow(single: Target[Any]) -> None:
    assert wires(plan_of(single)) == []


def test_an_operator_changes_neither_of_its_sides() -> None:
    before = (clean.wiring, store.wiring)
    clean >> store
    assert (clean.wiring, store.wiring) == before


@pytest.mark.parametrize(
    ("flow", "class_"),
    [
        (clean >> store, Sink),
        (clean >> polish, Flow),
        (clean >> (store, polish), Flow),
        (clean >> (store, log), Sink),
        ((clean, polish) >> store, Sink),
        ((clean, polish) >> named("x"), Flow),
    ],
)
def test_a_flow_whose_every_end_is_a_sink_is_a_sink(flow: Target[Any], class_: type) -> None:
    assert type(flow) is class_


# Order and cycles


def test_a_stage_used_again_is_fed_back_and_not_from_the_front() -> None:
    plan = plan_of(seeds >> fetch >> parse >> (store | fetch))
    assert wires(plan) == ["seeds>fetch", "fetch>parse", "parse>store", "parse>fetch~"]


def test_sources_come_first_wherever_they_are_written() -> None:
    plan = plan_of(fetch >> parse >> (store | fetch), seeds >> fetch)
    assert [stage.name for stage in plan.stages] == ["seeds", "fetch", "parse", "store"]
    assert [edge.name for edge in plan.edges if edge.feedback] == ["parse>fetch"]


def test_a_cycle_without_a_source_is_closed_by_the_edge_back_to_what_is_written_first() -> None:
    bounded = clean.options(bounded=True)
    assert wires(plan_of(bounded >> polish >> bounded)) == ["clean>polish", "polish>clean~"]


def test_a_stage_may_feed_itself() -> None:
    bounded = clean.options(bounded=True)
    assert wires(plan_of(bounded >> bounded)) == ["clean>clean~"]


def test_a_diamond_has_no_feedback() -> None:
    plan = plan_of(clean >> (polish, named("shine")) >> store)
    assert not any(edge.feedback for edge in plan.edges)
    assert [stage.name for stage in plan.stages][-1] == "store"


def test_a_cycle_without_a_bound_is_a_warning_that_names_it() -> None:
    [warning] = plan_of(seeds >> relink_chain()).warnings
    assert (warning.code, warning.severity) == ("FQ305", "warning")
    assert "visit -> relink -> visit" in warning.text
    assert "dedup" in warning.hint


def relink_chain() -> Any:
    @stage
    def visit(link: Link) -> Doc: ...

    return visit >> relink >> visit


@pytest.mark.parametrize("option", [{"dedup": "url"}, {"bounded": True}])
@pytest.mark.parametrize("where", ["clean", "polish"])
def test_dedup_or_a_bound_anywhere_on_the_cycle_silences_the_warning(option: dict[str, Any], where: str) -> None:
    cycle = {"clean": clean, "polish": polish}
    cycle[where] = cycle[where].options(**option)
    assert plan_of(cycle["clean"] >> cycle["polish"] >> cycle["clean"]).warnings == ()


def test_a_bound_beside_the_cycle_does_not_silence_the_warning() -> None:
    bounded_sink = store.options(dedup="url")
    warnings = plan_of(clean >> polish >> clean, polish >> bounded_sink).warnings
    assert [warning.code for warning in warnings] == ["FQ305"]


def test_outputs_that_nothing_takes_are_a_warning() -> None:
    [warning] = plan_of(seeds >> fetch).warnings
    assert warning.code == "FQ109"
    assert "fetch" in warning.text
    assert warning.details == ("fetch emits   Page",)


def test_the_graph_of_a_plan_is_what_its_edges_say() -> None:
    graph = plan_of(seeds >> fetch >> parse >> (store | fetch)).graph
    assert set(graph.edges(keys=True)) == {
        ("seeds", "fetch", "seeds>fetch"),
        ("fetch", "parse", "fetch>parse"),
        ("parse", "store", "parse>store"),
        ("parse", "fetch", "parse>fetch"),
    }


# Problems


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


@pytest.mark.parametrize("right", [clean >> store, print, None], ids=["flow", "function", "nothing"])
def test_only_stages_are_alternatives(right: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = clean | right


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
        assert problem.place.file.endswith("test_compiler.py")
        assert problem.place.line > 1
        assert problem.hint


def test_the_text_of_the_error_is_the_list_of_problems() -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p", seeds >> fetch >> parse >> store)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("error[FQ103]: parse cannot feed store    ")
    assert lines[-1] == "  hint: send Link where it is accepted: parse >> (store | fetch)"
