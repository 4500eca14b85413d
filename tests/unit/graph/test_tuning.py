"""Options set outside the code: a tuned pipeline equals one with these options in its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import Pipeline, PipelineError, Rate, Retry, source, stage
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.tuning import TUNABLE
from flowq.graph.declaration.option_values import size
from flowq.graph.declaration.options import READERS


class Link(BaseModel):
    url: str

    @property
    def host(self) -> str:
        return ""


RETRY = Retry(attempts=2, base=1, max=10, jitter=False, on=OSError, give_up_on=TimeoutError)
RATE = Rate(20, per=60, by="host", burst=3, concurrency=2)


def fetch(link: Link) -> Link: ...
def store(links: list[Link]) -> None: ...
def show(link: Link) -> None: ...


def pipeline(**options: Any) -> Pipeline:
    """fetch >> store, where fetch has these options."""
    return Pipeline("p", stage(**options)(fetch) >> stage(batch=200)(store))


def plan_of(tuned: Pipeline) -> tuple[tuple[StagePlan, ...], object]:
    """All that the plan says but for the handlers, which are the same functions."""
    return tuned.plan.stages, tuned.plan.edges


@pytest.mark.parametrize(
    ("tuning", "code"),
    [
        ({"concurrency": 32}, {"concurrency": 32}),
        ({"timeout": "30s"}, {"timeout": 30}),
        ({"maxsize": 5}, {"maxsize": 5}),
        ({"maxsize_bytes": "16MB"}, {"maxsize_bytes": 16_000_000}),
        ({"max_bytes": "5MB"}, {"max_bytes": 5_000_000}),
        ({"compress": True}, {"compress": True}),
        ({"compress": 500}, {"compress": 500}),
        ({"keep": "1h"}, {"keep": "1h"}),
        ({"keep": 1000}, {"keep": 1000}),
        ({"retry": {"attempts": 8}}, {"retry": Retry(8)}),
        ({"retry": {"max": "5m", "jitter": False}}, {"retry": Retry(max=300, jitter=False)}),
        ({"retry.base": "250ms"}, {"retry": Retry(base=0.25)}),
        ({"rate": {"n": 5}}, {"rate": Rate(5)}),
        (
            {"rate": {"n": 0.5, "per": "1m", "burst": 2, "concurrency": 3}},
            {"rate": Rate(0.5, per=60, burst=2, concurrency=3)},
        ),
    ],
)
def test_a_tuned_pipeline_is_the_one_whose_code_says_so(tuning: Mapping[str, Any], code: Mapping[str, Any]) -> None:
    own = {"concurrency": 3, "timeout": 5, "max_bytes": 100}

    assert plan_of(pipeline(**own).tuned({"fetch": tuning})) == plan_of(pipeline(**{**own, **code}))


def test_parts_of_retry_and_rate_that_are_not_set_stay_as_in_the_code() -> None:
    tuned = pipeline(retry=RETRY, rate=RATE).tuned({"fetch": {"retry": {"attempts": 8}, "rate": {"n": 50}}})

    told = tuned.plan.stage("fetch")
    assert told.retry == Retry(8, base=1, max=10, jitter=False, on=OSError, give_up_on=TimeoutError)
    assert told.rate == Rate(50, per=60, by="host", burst=3, concurrency=2)


def test_some_keys_may_be_given_a_rate_of_their_own() -> None:
    own = {"slow.example": {"n": 1, "per": "10s"}, "fragile.example": {"n": 2, "concurrency": 1}}

    tuned = pipeline(rate=RATE).tuned({"fetch": {"rate": {"keys": own}}})

    paced = tuned.plan.stage("fetch").rate
    assert paced == Rate(
        20,
        per=60,
        by="host",
        burst=3,
        concurrency=2,
        keys={"slow.example": Rate(1, per=10), "fragile.example": Rate(2, concurrency=1)},
    )


def test_the_size_of_a_batch_is_that_of_the_stage_that_has_one() -> None:
    tuned = pipeline().tuned({"store": {"batch": 1000, "linger": "1s", "batch_bytes": "1MB"}})

    assert (
        tuned.plan.stage("store").batch
        == Pipeline("p", stage(batch=1000, linger=1, batch_bytes=1_000_000)(store)).plan.stage("store").batch
    )


def test_the_pipeline_itself_stays_as_it_is_and_tuning_adds_up() -> None:
    own = pipeline(concurrency=3)

    first = own.tuned({"fetch": {"concurrency": 8, "timeout": 5}})
    then = first.tuned({"fetch": {"timeout": 7}, "store": {"batch": 10}})

    assert (own.plan.stage("fetch").concurrency, own.plan.tuning) == (3, {})
    fetching, storing = then.plan.stage("fetch"), then.plan.stage("store")
    assert (fetching.concurrency, fetching.timeout_seconds) == (8, 7)
    assert storing.batch
    assert storing.batch.size == 10
    assert then.plan.tuning == {"fetch": {"concurrency": 8, "timeout": 7}, "store": {"batch": 10}}
    assert plan_of(own.tuned(then.plan.tuning)) == plan_of(then)


def test_plans_of_one_code_are_known_as_such_whatever_is_set() -> None:
    own = pipeline()
    tuned, other = own.tuned({"fetch": {"concurrency": 3}}), Pipeline("p", stage(show))

    assert own.plan.is_of_the_code_of(tuned.plan)
    assert not own.plan.is_of_the_code_of(other.plan)


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        ({"fecth": {"concurrency": 3}}, 'no stage "fecth"\n  hint: did you mean "fetch"'),
        ({"fetch": {"concurency": 3}}, 'no option "concurency".*\n.*did you mean "concurrency"'),
        ({"fetch": {"retry": {"attempt": 3}}}, 'no option "retry.attempt".*\n.*did you mean "retry.attempts"'),
        ({"fetch": {"retry": 3}}, 'no option "retry".*\n.*set retry.attempts, retry.base'),
        ({"fetch": {"dedup": "url"}}, "dedup can only be set in the code"),
        ({"fetch": {"rate": {"by": "host"}}}, "rate.by can only be set in the code"),
        ({"fetch": {"concurrency": 0}}, "concurrency=0 cannot be used.*\n.*above 0"),
        ({"fetch": {"concurrency": "many"}}, "concurrency='many' cannot be used"),
        ({"fetch": {"timeout": "soon"}}, "'soon' is not a duration"),
        ({"fetch": {"max_bytes": "5 apples"}}, "must be a size above 0"),
        ({"fetch": {"retry": {"base": "2m"}}}, "0 <= base <= max"),
        ({"fetch": {"rate": {"n": 1, "keys": {"a.example": {"n": 1}}}}}, "needs by="),
        ({"fetch": {"rate": {"n": 1, "keys": {"a.example": {"per": 1}}}}}, '"a.example" needs n'),
        ({"fetch": {"rate": {"n": 1, "keys": {"a.example": {"n": 1, "by": "x"}}}}}, '"a.example" needs n'),
        ({"fetch": {"rate": {"n": 1, "keys": 3}}}, "a table for each key"),
        ({"fetch": {"rate": {"per": "1m"}}}, "rate.n must be set"),
        ({"fetch": {"linger": 1}}, "linger has no effect without batch"),
        ({"fetch": {"batch": 10}}, "batch"),
        ({"numbers": {"concurrency": 1}}, 'numbers has no option "concurrency"'),
    ],
)
def test_what_cannot_be_set_is_reported_as_if_it_stood_in_the_code(tuning: Mapping[str, Any], said: str) -> None:
    def numbers() -> Iterator[Link]:
        yield Link(url="")

    own = Pipeline("p", source(numbers) >> stage(fetch) >> stage(show))

    with pytest.raises(PipelineError, match=said):
        own.tuned(tuning)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(PipelineError) as caught:
        pipeline().tuned({"fetch": {"timeout": "soon", "concurency": 3}, "stroe": {"batch": 3}})

    assert len(caught.value.problems) == 3


def test_every_option_of_a_stage_can_be_set_or_is_known_as_a_matter_of_the_code() -> None:
    set_in_parts = {name.partition(".")[0] for name in TUNABLE}

    assert set(READERS) - set_in_parts == {"dedup", "place", "ack", "inline", "process", "bounded"}


@pytest.mark.parametrize(
    ("written", "n_bytes"), [(1, 1), ("5", 5), ("1B", 1), ("1.5kB", 1500), ("64 MB", 64_000_000), ("1GiB", 2**30)]
)
def test_a_size_is_a_number_of_bytes_or_text(written: int | str, n_bytes: int) -> None:
    assert size(written) == n_bytes


@pytest.mark.parametrize("written", [0, -1, True, 1.5, "0MB", "MB", "5 iB", "-5MB"])
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        size(written)


def test_a_plan_that_was_not_tuned_has_no_tuning() -> None:
    plan: Plan = pipeline().plan

    assert plan.tuning == {}
