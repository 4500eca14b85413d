"""From flows to a plan: stages, edges, routes, order and feedback."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Flow, stage
from flowq.graph.declaration.flow import Sink, Target
from flowq.graph.kinds import Kind
from tests.unit.graph.small_stages import (
    Doc,
    Link,
    Scan,
    clean,
    fetch,
    log,
    named,
    note,
    parse,
    parse_scans,
    plan_of,
    polish,
    relink,
    routes,
    seeds,
    store,
    store_scans,
    wires,
)

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


def test_a_stage_that_gets_nothing_because_another_gets_every_type_is_a_warning() -> None:
    @stage
    def count(doc: Doc) -> None: ...

    [warning] = plan_of(seeds >> fetch >> parse >> (store | count | fetch)).warnings
    assert (warning.code, warning.place) == ("FQ109", count.definition.place)
    assert "parse sends nothing to count" in warning.text
    assert plan_of(seeds >> fetch >> parse >> (store | fetch), parse >> (count | fetch)).warnings == ()


def test_the_graph_of_a_plan_is_what_its_edges_say() -> None:
    graph = plan_of(seeds >> fetch >> parse >> (store | fetch)).graph
    assert set(graph.edges(keys=True)) == {
        ("seeds", "fetch", "seeds>fetch"),
        ("fetch", "parse", "fetch>parse"),
        ("parse", "store", "parse>store"),
        ("parse", "fetch", "parse>fetch"),
    }
