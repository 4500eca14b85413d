"""Where messages live: the shard that each output is addressed to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

from flowq import Dedup, Pipeline, PipelineError, Rate, source, stage
from flowq.delivery.edge import parse_address
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.message import Arrival, Delivery, Header
from flowq.delivery.placement import cell_in, cell_of, cell_of_hash, cells, shard_of
from flowq.delivery.settlement import Output
from flowq.errors import EncodeError
from flowq.graph.compilation.placing import NOWHERE, PlacedRouter, Placing, router_of
from flowq.graph.compilation.plan import Plan
from flowq.graph.compilation.routing import OutputRouter, deduplicating_edges
from flowq.graph.compilation.stored_keys import StoredKeys
from flowq.graph.declaration.context import Emitted
from flowq.graph.kinds import PlacedBy

SHARDS = 16
HOST = attrgetter("host")
ROW = Delivery(Arrival(">give", "w", 0), b"1-0", Header.entering("m0").encode(), b"")


class Link(BaseModel):
    url: str = "https://example.org/"
    host: Any = "example.org"


class Advice(BaseModel):
    spread: int


def plan_of(*, shards: int = SHARDS, **options: Any) -> Plan:
    """A stage that gives links to one that takes them, with these options."""

    async def give(n: int) -> Link:
        return Link(url=str(n))

    async def take(link: Link) -> None: ...

    taking: Any = stage(**options)(take)
    return Pipeline("p", stage(give) >> taking, shards=shards).plan


def router(plan: Plan, *, here: int = 0, of: str = "give") -> PlacedRouter:
    numbers = count(1)
    made = router_of(plan.stage(of), plan, lambda: b"m%d" % next(numbers), here=here)
    assert isinstance(made, PlacedRouter)
    return made


def sent(plan: Plan, *values: Any, here: int = NOWHERE) -> list[Output]:
    return router(plan, here=here).outputs(values, ROW)


def shards_of(outputs: list[Output]) -> list[int | None]:
    return [parse_address(output.edge).shard for output in outputs]


def test_in_one_shard_the_router_is_the_one_that_there_always_was() -> None:
    plan = plan_of(shards=1, dedup="url", rate=Rate(1, by="host"))
    assert type(router_of(plan.stage("give"), plan, lambda: b"m", here=0)) is OutputRouter


@pytest.mark.parametrize(
    ("options", "placed_by"),
    [
        ({}, PlacedBy.NOTHING),
        ({"place": "here"}, PlacedBy.HERE),
        ({"place": "spread"}, PlacedBy.MESSAGE),
        ({"rate": Rate(1)}, PlacedBy.STAGE),
        ({"rate": Rate(1), "dedup": "url"}, PlacedBy.STAGE),
        ({"rate": Rate(1, by="host"), "dedup": "url"}, PlacedBy.RATE),
        ({"rate": Rate(1, by="host"), "place": "host"}, PlacedBy.RATE),
        ({"dedup": "url"}, PlacedBy.DEDUP),
        ({"dedup": "url", "place": "host"}, PlacedBy.FIELD),
        ({"place": HOST}, PlacedBy.FIELD),
    ],
)
def test_a_rate_decides_before_dedup_and_both_before_nothing(options: dict[str, Any], placed_by: PlacedBy) -> None:
    assert plan_of(**options).stage("take").placed_by is placed_by


@given(host=st.text(), shard=st.integers(0, SHARDS - 1))
def test_all_messages_of_a_pacing_key_are_sent_to_one_shard_whichever_they_come_from(host: str, shard: int) -> None:
    plan = plan_of(rate=Rate(1, by="host"), dedup="url")
    outputs = sent(plan, *[Link(url=str(n), host=host) for n in range(3)], here=shard)
    home = shard_of(host.replace("\n", " ").encode(), SHARDS)
    assert shards_of(outputs) == [None if home == shard else home] * 3


@pytest.mark.parametrize("host", [1, 1.0, True, None, "a\nb", ["x"]])
def test_the_sender_finds_the_pacing_key_that_the_receiver_finds(host: Any) -> None:
    plan = plan_of(rate=Rate(1, by="host"))
    (output,) = sent(plan, Link(host=host))
    delivery = Delivery(Arrival(">take", "w", 0), b"1-0", output.header, output.body)
    key = StoredKeys(plan.stage("take"), plan).pacing_key(delivery)
    assert key is not None
    assert shards_of([output]) == [shard_of(key.encode(), SHARDS)]


def test_a_message_is_paced_by_what_its_receiver_reads_which_need_not_equal_what_was_sent() -> None:
    async def give(n: int) -> Link:
        return Link(url=str(n))

    async def take(link: Annotated[Link, AfterValidator(lambda link: Link(host=link.host.lower()))]) -> None: ...

    plan = Pipeline("p", stage(give) >> stage(rate=Rate(1, by="host"))(take), shards=SHARDS).plan
    assert shards_of(sent(plan, Link(host="EXAMPLE.org"))) == [shard_of(b"example.org", SHARDS)]


def test_compressed_messages_are_placed_by_what_they_hold() -> None:
    plan = plan_of(rate=Rate(1, by="host"), compress=10)
    (output,) = sent(plan, Link(url="x" * 10_000))
    assert b" e=" in output.header
    assert shards_of([output]) == [shard_of(b"example.org", SHARDS)]


def test_equal_values_meet_in_one_shard_and_others_are_spread() -> None:
    plan = plan_of(dedup="url")
    outputs = sent(plan, *[Link(url=f"https://example.org/{n}") for n in range(200)] * 2)
    assert shards_of(outputs[:200]) == shards_of(outputs[200:])
    assert set(shards_of(outputs)) == set(range(SHARDS))
    assert [cells(SHARDS)[cell_of_hash(output.dedup_hash)] for output in outputs] == shards_of(outputs)
    assert outputs[0].dedup_hash == dedup_hash("https://example.org/0")


def test_the_key_of_dedup_may_be_of_any_type_and_none_is_no_key() -> None:
    plan = plan_of(dedup=Dedup("host"))
    one, text, nothing = sent(plan, Link(host=1), Link(host="1"), Link(host=None))
    assert one.dedup_hash != text.dedup_hash
    assert parse_address(nothing.edge).shard is None
    assert nothing.dedup_hash == b""


def test_a_stage_with_one_rate_has_a_home_shard() -> None:
    outputs = sent(plan_of(rate=Rate(20)), Link(), Link(host="b"), Link(host="c"))
    assert shards_of(outputs) == [shard_of(b"take", SHARDS)] * 3


def test_messages_without_a_key_stay_and_come_from_outside_anywhere() -> None:
    plan = plan_of()
    assert shards_of(sent(plan, Link(), Link())) == [None, None]
    entrance = router(plan, here=NOWHERE)
    outputs = [output for _ in range(200) for output in entrance.entering(Link())]
    assert shards_of(outputs) == [shard_of(output.header.split()[0], SHARDS) for output in outputs]
    assert len(set(shards_of(outputs))) == SHARDS


def test_messages_that_stay_here_stay_also_when_they_enter() -> None:
    plan = plan_of(place="here")
    assert shards_of(sent(plan, Link())) == [None]
    assert shards_of(router(plan).entering(Link())) == [None]


def test_spread_messages_are_placed_by_their_ids() -> None:
    outputs = sent(plan_of(place="spread"), *[Link()] * 200)
    assert len(set(shards_of(outputs))) == SHARDS


def test_place_names_what_decides() -> None:
    by_field = sent(plan_of(place="host"), Link(url="1"), Link(url="2"), Link(url="3", host="other.example"))
    by_function = sent(plan_of(place=HOST), Link(url="1"))
    assert shards_of(by_field)[:2] == [cells(SHARDS)[cell_of_hash(dedup_hash("example.org"))]] * 2
    assert shards_of(by_function) == shards_of(by_field)[:1]


def test_a_place_that_fails_is_an_error_of_the_sender() -> None:
    with pytest.raises(EncodeError, match="the place of a message to take failed"):
        sent(plan_of(place=attrgetter("missing")), Link())


def test_what_is_emitted_by_name_is_addressed_too() -> None:
    plan = plan_of(dedup="url")
    outputs = router(plan, here=NOWHERE).emitted([Emitted("take", Link(), 60.0)], ROW)
    assert shards_of(outputs) == [cells(SHARDS)[cell_of_hash(dedup_hash(Link().url))]]
    assert outputs[0].delay_ms == 60_000


@pytest.mark.parametrize(("exact", "n_bytes"), [(True, 10), (False, 5)])
def test_hashes_of_a_stage_that_is_placed_by_another_key_tell_their_cell(exact: bool, n_bytes: int) -> None:
    plan = plan_of(dedup=Dedup("url", exact=exact), rate=Rate(1, by="host"))
    (output,) = sent(plan, Link())
    assert deduplicating_edges(plan)["give>take"].hash_bytes == n_bytes + 2
    assert output.dedup_hash[:n_bytes] == dedup_hash(Link().url)[:n_bytes]
    assert cell_in(output.dedup_hash[: n_bytes + 2], n_bytes) == cell_of(b"example.org")


@pytest.mark.parametrize("options", [{"dedup": "url"}, {"dedup": "url", "rate": Rate(1)}])
def test_other_hashes_are_as_in_one_shard(options: dict[str, Any]) -> None:
    plan = plan_of(**options)
    (output,) = sent(plan, Link())
    assert output.dedup_hash == dedup_hash(Link().url)
    assert deduplicating_edges(plan) == deduplicating_edges(plan_of(shards=1, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"rate": Rate(1, by="host"), "dedup": "url"}, {"dedup": "url"}, {"place": "host"}, {"rate": Rate(1)},
        {"place": attrgetter("url"), "dedup": "host"},
    ],
)  # fmt: skip
def test_a_stored_message_is_found_to_live_where_it_was_sent(options: dict[str, Any]) -> None:
    plan = plan_of(**options)
    for output in sent(plan, *[Link(url=str(n), host=f"h{n}") for n in range(20)]):
        edge = parse_address(output.edge).edge
        delivery = Delivery(Arrival(edge, "w", 0), b"1-0", output.header, output.body)
        assert Placing(plan).place_of(delivery, NOWHERE) == (output.edge, output.dedup_hash)


@pytest.mark.parametrize("options", [{}, {"rate": Rate(1, by="host")}, {"dedup": "url"}, {"place": "host"}])
def test_what_cannot_be_read_stays_where_it_is(options: dict[str, Any]) -> None:
    delivery = Delivery(Arrival(">take", "w", 0), b"1-0", b"m - - 0", b"no JSON")
    assert Placing(plan_of(**options)).place_of(delivery, 3) == (">take", b"")


def test_a_source_addresses_what_it_yields() -> None:
    def urls() -> Iterator[Link]:
        yield Link()

    async def take(link: Link) -> None: ...

    plan = Pipeline("p", source(urls) >> stage(dedup="url")(take), shards=SHARDS).plan
    (output,) = router(plan, of="urls", here=NOWHERE).entering(Link())
    assert shards_of([output]) == [cells(SHARDS)[cell_of_hash(output.dedup_hash)]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": Rate(1, by="host"), "place": "url"}, "place is not the key of the rate"),
        ({"rate": Rate(1), "place": "host"}, "place is not the key of the rate"),
        ({"rate": Rate(1, by="host"), "place": "spread"}, "place is not the key of the rate"),
        (
            {"dedup": "url", "place": "spread"},
            "place puts messages that dedup takes for the same into different shards",
        ),
        ({"dedup": "url", "place": "here"}, "place puts messages that dedup takes for the same into"),
        ({"place": "hots"}, 'place="hots", but Link has no such field'),
        ({"place": 3}, "place=3 cannot be used"),
    ],
)
def test_a_place_that_breaks_a_promise_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        plan_of(**options)


def test_a_field_with_the_name_of_a_place_must_be_named_by_a_function() -> None:
    async def take(advice: Advice) -> None: ...

    with pytest.raises(PipelineError, match='place="spread" is not the field of Advice'):
        Pipeline("p", stage(place="spread")(take))


def test_limits_are_divided_among_the_shards_unless_one_has_them_all() -> None:
    spread, home = plan_of(maxsize=100, maxsize_bytes=1000), plan_of(maxsize=100, maxsize_bytes=1000, rate=Rate(1))
    assert (spread.edge_in_shard["give>take"].maxsize, spread.edge_in_shard["give>take"].maxsize_bytes) == (7, 63)
    assert home.edge_in_shard["give>take"] == home.edge_by_name["give>take"]
    assert plan_of().edge_in_shard[">take"].maxsize == 0
    assert plan_of(shards=1, maxsize=100).edge_in_shard["give>take"].maxsize == 100
