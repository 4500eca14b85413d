"""Options of a stage: their values in the plan, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from flowq import Context, Dedup, Pipeline, PipelineError, Rate, Retry, resource, source, stage, use
from flowq.delivery.policy import AckMode, DedupMemory, Keep
from flowq.errors import Problem
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.kinds import Batch


class Link(BaseModel):
    url: str

    @property
    def host(self) -> str:
        return ""


class Row(TypedDict):
    ident: int


def follow(link: Link) -> None: ...
async def follow_async(link: Link) -> None: ...
def with_context(link: Link, ctx: Context) -> None: ...
def store(links: list[Link]) -> None: ...
def mixed(message: Link | Row) -> None: ...
def text(message: str) -> None: ...
def anything(message: Any) -> None: ...


@resource
def database() -> str:
    return ""


def with_resource(link: Link, db: str = use(database)) -> None: ...


def compiled(fn: Any, **options: Any) -> StagePlan:
    return Pipeline("p", stage(**options)(fn)).plan.stages[0]


def problems_of(fn: Any, **options: Any) -> list[Problem]:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p", stage(**options)(fn))
    return list(caught.value.problems)


def test_options_reach_the_plan() -> None:
    retry, rate = Retry(attempts=2), Rate(20, by="host")
    plan = compiled(
        with_context,
        name="renamed",
        concurrency=3,
        retry=retry,
        rate=rate,
        timeout="1.5m",
        dedup="url",
        ack="manual",
        max_bytes=100,
        maxsize=5,
    )
    assert (plan.name, plan.concurrency, plan.timeout_seconds, plan.dedup) == ("renamed", 3, 90.0, Dedup("url"))
    assert (plan.retry, plan.rate, plan.ack, plan.max_bytes) == (retry, rate, AckMode.MANUAL, 100)


def test_a_dedup_reaches_the_plan_with_its_scope_and_its_time_to_live() -> None:
    plan = compiled(follow, dedup=Dedup("url", scope="forever", ttl="7d"))
    assert plan.dedup == Dedup("url", scope="forever", ttl=604_800)
    assert plan.dedup_memory == DedupMemory(604_800_000)
    assert compiled(follow, dedup="url") == compiled(follow, dedup=Dedup("url"))
    assert compiled(follow, dedup="url").dedup_memory == DedupMemory()
    assert compiled(follow).dedup_memory is None


def test_a_dedup_that_keeps_the_last_knows_all_edges_on_which_the_first_may_be() -> None:
    plan = compiled(follow, dedup=Dedup("url", keep="last"))
    assert plan.dedup_memory == DedupMemory(None, plan.in_edges)
    assert plan.in_edges


def test_a_dedup_that_need_not_be_exact_remembers_fewer_bytes() -> None:
    exact, approximate = (compiled(follow, dedup=Dedup("url", exact=exact)).dedup_memory for exact in (True, False))
    assert exact == DedupMemory(hash_bytes=10)
    assert approximate == DedupMemory(hash_bytes=5)


@pytest.mark.parametrize(
    "wrong",
    [{"scope": "always"}, {"ttl": 0}, {"ttl": "soon"}, {"keep": "newest"}, {"keep": "last", "exact": False}],
)
def test_a_dedup_that_makes_no_sense_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Dedup\(|duration"):
        Dedup("url", **wrong)


def test_the_defaults_are_those_that_are_documented() -> None:
    plan = compiled(follow)
    assert (plan.concurrency, plan.ack, plan.max_bytes, plan.retry) == (10, AckMode.AFTER, 1_000_000, Retry())
    assert (plan.timeout_seconds, plan.batch, plan.dedup, plan.rate) == (None, None, None, None)


@pytest.mark.parametrize(
    ("written", "kept"), [("1h", Keep(100_000, 3_600_000)), ("250ms", Keep(100_000, 250)), (1000, Keep(1000))]
)
def test_what_is_settled_is_kept_for_a_time_or_up_to_a_number(written: int | str, kept: Keep) -> None:
    plan = Pipeline("p", stage(keep=written)(follow)).plan

    assert (plan.stages[0].keep, plan.keeping) == (kept, {"follow": kept})
    assert compiled(follow).keep is None


@pytest.mark.parametrize("written", [0, -1, True, 1.5, "0s", "long"])
def test_a_keep_that_means_nothing_is_reported(written: Any) -> None:
    (problem,) = problems_of(follow, keep=written)

    assert problem.text.startswith("follow: keep=")


def test_maxsize_holds_for_every_edge_into_the_stage() -> None:
    def give(link: Link) -> Link: ...

    plan = Pipeline("p", stage(give) >> stage(maxsize=5)(follow)).plan
    assert {edge.name: edge.maxsize for edge in plan.edges} == {
        ">give": 0,
        ">follow": 5,
        "give>follow": 5,
    }


def test_maxsize_bytes_holds_for_every_edge_into_the_stage() -> None:
    def give(link: Link) -> Link: ...

    plan = Pipeline("p", stage(give) >> stage(maxsize_bytes=5_000)(follow)).plan
    sizes = {edge.name: edge.maxsize_bytes for edge in plan.edges}
    assert sizes == {">give": 0, ">follow": 5_000, "give>follow": 5_000}
    plan = Pipeline("p", stage(give) >> stage(follow)).plan
    assert plan.edge_by_name["give>follow"].maxsize_bytes == 64_000_000


def test_batch_and_linger_make_a_batch() -> None:
    assert compiled(store, batch=50, linger="250ms").batch == Batch(50, 0.25)
    assert compiled(store, batch=50).batch == Batch(50, 0.2)
    assert compiled(store, batch=50, batch_bytes=1000).batch == Batch(50, 0.2, 1000)


@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (follow, {"concurrency": 0}),
        (follow, {"concurrency": "8"}),
        (follow, {"concurrency": True}),
        (follow, {"timeout": 0}),
        (follow, {"timeout": "soon"}),
        (follow, {"timeout": [1]}),
        (follow, {"retry": 3}),
        (follow, {"rate": 20}),
        (follow, {"dedup": ""}),
        (follow, {"dedup": 7}),
        (follow, {"ack": "later"}),
        (follow, {"max_bytes": -1}),
        (follow, {"maxsize": 0.5}),
        (follow, {"inline": "yes"}),
        (follow, {"inline": True, "process": True}),
        (follow, {"linger": 1}),
        (follow, {"ack": "first", "retry": Retry()}),
        (follow, {"ack": "manual"}),
        (store, {"batch": 0}),
        (store, {"batch": 5, "linger": -1}),
        (store, {"batch": 5, "batch_bytes": 0}),
        (follow, {"batch_bytes": 1000}),
        (follow, {"inline": True, "timeout": 5}),
        (follow_async, {"inline": True}),
        (follow_async, {"process": True}),
        (with_context, {"process": True}),
        (with_resource, {"process": True}),
        (lambda link: None, {"process": True, "name": "unimportable"}),
    ],
)
def test_a_value_or_combination_that_cannot_be_used_is_reported(fn: Any, options: dict[str, Any]) -> None:
    assert "FQ106" in [problem.code for problem in problems_of(fn, **options)]


@pytest.mark.parametrize(
    ("option", "hint"),
    [("concurency", 'did you mean "concurrency"?'), ("zzz", "options: concurrency, retry")],
)
def test_an_unknown_option_is_reported_with_the_nearest_or_all(option: str, hint: str) -> None:
    [problem] = problems_of(follow, **{option: 3})
    assert (problem.code, problem.text) == ("FQ106", f'follow has no option "{option}"')
    assert hint in problem.hint


def test_a_source_has_no_option_but_its_name() -> None:
    def links() -> Any:
        yield Link(url="")

    with pytest.raises(PipelineError, match='links has no option "concurrency"'):
        Pipeline("p", source(concurrency=3)(links))


def test_none_means_that_an_option_is_not_given() -> None:
    assert compiled(follow, retry=None, timeout=None, linger=None) == compiled(follow)


@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (follow, {"dedup": "url"}),
        (follow, {"dedup": "host"}),
        (follow, {"dedup": lambda link: link.url}),
        (follow, {"dedup": Dedup("host", scope="forever", ttl="7d")}),
        (follow, {"rate": Rate(1, by="host")}),
        (follow, {"rate": Rate(1)}),
        (store, {"batch": 5, "dedup": "url"}),
        (anything, {"dedup": "whatever"}),
        (text, {"dedup": str.lower}),
    ],
)
def test_a_field_a_property_or_a_function_may_be_the_key(fn: Any, options: dict[str, Any]) -> None:
    assert compiled(fn, **options)


@pytest.mark.parametrize(
    ("fn", "options", "text_", "hint"),
    [
        (follow, {"dedup": "ulr"}, 'dedup="ulr", but Link has no', 'did you mean "url"?'),
        (follow, {"rate": Rate(1, by="hots")}, 'rate by="hots"', 'did you mean "host"?'),
        (follow, {"dedup": "zzz"}, 'dedup="zzz"', "its fields: host, url"),
        (follow, {"dedup": Dedup("ulr")}, 'dedup="ulr", but Link has no', 'did you mean "url"?'),
        (follow, {"dedup": "copy"}, 'dedup="copy"', "its fields"),
        (mixed, {"dedup": "url"}, "Row has no such field", "its fields: ident"),
        (text, {"dedup": "lower"}, "str has no such field", "use a function of the message"),
        (store, {"batch": 5, "dedup": "ulr"}, "Link has no such field", "url"),
    ],
)
def test_a_missing_field_is_reported_with_the_nearest(fn: Any, options: dict[str, Any], text_: str, hint: str) -> None:
    [problem] = problems_of(fn, **options)
    assert problem.code == "FQ105"
    assert text_ in problem.text
    assert hint in problem.hint


@pytest.mark.parametrize(("given", "above"), [(True, 2000), (False, None), (500, 500)])
def test_compression_is_on_off_or_above_a_size(given: bool | int, above: int | None) -> None:
    assert compiled(follow, compress=given).compress_above == above
    assert problems_of(follow, compress="yes")[0].code == "FQ106"


def test_the_size_above_which_a_body_is_claimed_must_be_one_that_a_body_may_have() -> None:
    assert compiled(follow, claim_above=100_000).claim_above == 100_000
    assert compiled(follow).claim_above is None
    for options in ({"claim_above": 1_000_000}, {"claim_above": 5000, "max_bytes": 5000}, {"claim_above": "1 MB"}):
        assert [problem.code for problem in problems_of(follow, **options)] == ["FQ106"]
