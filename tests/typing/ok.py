# pyright: strict
"""Flows that are right: no checker may complain, and each must compile at import."""

from __future__ import annotations

from typing import assert_type

from flowq import Context, Flow, Pipeline, Source, Stage
from flowq.graph.declaration.flow import Sink
from flowq.graph.declaration.stage import SinkStage
from tests.typing.stages import (
    Doc,
    Flight,
    Link,
    Page,
    Row,
    Scan,
    archive,
    count,
    crawl,
    docs,
    extract,
    fetch,
    flights,
    follow,
    insert,
    judge,
    keep,
    land,
    links,
    log,
    parse,
    resuming,
    resuming_async,
    scan,
    seeds,
    sieve,
    split,
    store,
    tabulate,
    tell,
    total,
    translate,
    unwrap,
    weigh,
    wrap,
)


def inferred() -> object:
    assert_type(seeds, Source[Link])
    assert_type(resuming, Source[Link])
    assert_type(links, Source[Link])
    assert_type(docs, Source[Doc])
    assert_type(fetch, Stage[Link, Page | None])
    assert_type(parse, Stage[Page, Doc | Link])
    assert_type(crawl, Stage[Page, Link])
    assert_type(split, Stage[Page, Doc])
    assert_type(scan, Stage[Page, Scan])
    assert_type(translate, Stage[Doc, Doc])
    assert_type(store, SinkStage[Doc])
    assert_type(keep, Stage[Doc, Doc])
    assert_type(sieve, Stage[Doc, Doc | None])
    assert_type(fetch >> extract, Flow[Link, Doc])
    assert_type(land >> tabulate, Flow[Flight, Row])
    assert_type(parse >> count, Sink[Page])
    return fetch


def single_stage() -> object:
    return Pipeline("one", log)


def single_source() -> object:
    return Pipeline("one", seeds)


def chain_of_source_and_stage() -> object:
    return seeds >> fetch


def chain_to_a_sink() -> object:
    return seeds >> fetch >> extract >> store


def optional_output_feeds_the_next_stage() -> object:
    return fetch >> parse >> count


def optional_output_feeds_a_sink() -> object:
    return fetch >> archive


def union_output_to_a_union_input() -> object:
    return parse >> count


def one_type_to_a_union_input() -> object:
    return extract >> count


def async_generator() -> object:
    return fetch >> crawl >> follow


def list_output_is_many() -> object:
    return fetch >> split >> log


def async_list_output_is_many() -> object:
    return scan >> log


def subclass_feeds_its_base() -> object:
    return scan >> translate >> store


def batch_in_the_middle() -> object:
    return extract >> translate >> log


def generic_model() -> object:
    return extract >> wrap >> unwrap >> store


def literal() -> object:
    return extract >> judge >> tell


def an_int_for_a_float() -> object:
    return extract >> weigh >> total


def typed_dict() -> object:
    return extract >> tabulate >> insert


def data_class() -> object:
    return flights >> land >> store


def sync_source() -> object:
    return flights >> land


def resuming_sources() -> object:
    return resuming >> fetch, resuming_async >> follow


def ready_sources() -> object:
    return links >> fetch, docs >> store


def route_by_type() -> object:
    return parse >> (store | follow)


def route_with_feedback() -> object:
    return Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch))


def route_of_three() -> object:
    return parse >> (log | follow | fetch)


def route_continues() -> object:
    return parse >> (tabulate | follow) >> insert


def route_to_two_stages_that_merge() -> object:
    return parse >> (tabulate | fetch), tabulate >> insert


def fan_to_sinks() -> object:
    return extract >> (store, log)


def fan_to_stages_and_sinks() -> object:
    return fetch >> (extract, archive)


def fan_of_a_list() -> object:
    return extract >> [store, log]


def fan_that_continues() -> object:
    return fetch >> (extract, split) >> store


def fan_to_flows() -> object:
    return fetch >> (extract >> store, crawl >> follow)


def merge() -> object:
    return (extract, split) >> store


def merge_of_different_types() -> object:
    return (extract, crawl) >> count


def merge_of_flows() -> object:
    return (seeds >> fetch, seeds >> fetch) >> extract


def merge_of_a_list() -> object:
    return [extract, split] >> store


def nested_flows() -> object:
    head = seeds >> fetch
    tail = extract >> tabulate >> insert
    return head >> tail


def several_flows() -> object:
    return Pipeline("two", seeds >> fetch >> parse >> count, parse >> count)


def bound_method_and_callable_instance() -> object:
    return extract >> keep >> sieve >> store


def copy_with_options() -> object:
    return extract >> keep.options(name="keep_2", concurrency=2) >> store.options(batch=10, linger="1s")


def called_directly() -> object:
    extract(Page(url="", html=""))
    return extract


async def emitted(ctx: Context, link: Link, scan: Scan) -> None:
    await ctx.emit(fetch, link)
    await ctx.emit(fetch, link, delay=5)
    await ctx.emit(log, scan)
    await ctx.emit(count, link)
    await ctx.ack()
