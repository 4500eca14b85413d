# pyright: strict
"""Mistakes: every line marked as wrong must be an error in each checker, and no other line may be one.

What Python can see is refused at import as well; the functions named `only_checkers_see_...` are the rest.
"""

from __future__ import annotations

from flowq import Context, Dedup, Pipeline, Rate, Retry, SourceContext, source, stage, use
from tests.typing.stages import (
    Client,
    Doc,
    Link,
    Page,
    Row,
    archive,
    client,
    count,
    crawl,
    docs,
    extract,
    fetch,
    flights,
    follow,
    insert,
    land,
    limit,
    links,
    log,
    parse,
    scan,
    seeds,
    split,
    store,
    tabulate,
    translate,
)


def source_to_a_stage_of_another_type() -> object:
    return seeds >> extract  # wrong


def sync_source_to_a_stage_of_another_type() -> object:
    return flights >> fetch  # wrong


def ready_source_to_a_stage_of_another_type() -> object:
    return docs >> fetch  # wrong


def ready_source_to_a_batch_of_another_type() -> object:
    return links >> store  # wrong


def stage_to_a_stage_of_another_type() -> object:
    return fetch >> translate  # wrong


def stage_to_a_sink_of_another_type() -> object:
    return fetch >> log  # wrong


def stage_to_a_batch_of_another_type() -> object:
    return fetch >> store  # wrong


def mistake_in_the_middle_of_a_chain() -> object:
    return seeds >> fetch >> tabulate >> insert  # wrong


def mistake_at_the_end_of_a_chain() -> object:
    return seeds >> fetch >> extract >> insert  # wrong


def union_to_one_of_its_types() -> object:
    return parse >> store  # wrong


def union_to_the_other_of_its_types() -> object:
    return parse >> follow  # wrong


def base_to_its_subclass() -> object:
    @stage
    def of_scans(scan: ScanOnly) -> None: ...

    return extract >> of_scans  # wrong


def async_generator_to_another_type() -> object:
    return crawl >> log  # wrong


def list_output_to_another_type() -> object:
    return split >> follow  # wrong


def async_list_output_to_another_type() -> object:
    return scan >> follow  # wrong


def batch_output_to_another_type() -> object:
    return translate >> insert  # wrong


def typed_dict_to_a_model() -> object:
    return tabulate >> log  # wrong


def data_class_stage_fed_by_a_model() -> object:
    return extract >> land  # wrong


def sink_feeds_a_stage() -> object:
    return store >> extract  # wrong


def sink_feeds_a_sink() -> object:
    return log >> log  # wrong


def chain_after_a_sink() -> object:
    return fetch >> archive >> extract  # wrong


def stage_feeds_a_source() -> object:
    return fetch >> seeds  # wrong


def fan_of_which_one_does_not_fit() -> object:
    return extract >> (store, follow)  # wrong


def fan_of_stages_of_which_one_does_not_fit() -> object:
    return fetch >> (extract, tabulate)  # wrong


def fan_of_a_union() -> object:
    return parse >> (store, fetch)  # wrong


def fan_list_of_which_one_does_not_fit() -> object:
    return extract >> [store, follow]  # wrong


def fan_list_of_stages_and_sinks() -> object:
    return fetch >> [extract, log]  # wrong


def route_that_leaves_a_type() -> object:
    return parse >> (store | tabulate)  # wrong


def route_of_other_types() -> object:
    return fetch >> (store | follow)  # wrong


def route_whose_output_does_not_fit() -> object:
    return parse >> (tabulate | follow) >> log  # wrong


def route_without_its_parentheses() -> object:
    return parse >> store | fetch  # wrong


def merge_of_which_one_does_not_fit() -> object:
    return (extract, crawl) >> store  # wrong


def merge_into_another_type() -> object:
    return (extract, split) >> fetch  # wrong


def merge_list_of_which_one_does_not_fit() -> object:
    return [extract, crawl] >> store  # wrong


def nested_flow_to_another_type() -> object:
    tail = tabulate >> insert
    return fetch >> tail  # wrong


def plain_function() -> object:
    def plain(page: Page) -> None: ...

    return fetch >> plain  # wrong


def plain_function_as_pipeline() -> object:
    def plain(page: Page) -> None: ...

    return Pipeline("p", plain)  # wrong


def no_message_parameter() -> object:
    def nothing() -> Doc:
        return Doc(url="", title="")

    return stage(nothing)  # wrong


def batch_of_a_single_message() -> object:
    def single(doc: Doc) -> None: ...

    return stage(batch=10)(single)  # wrong


def option_misspelt() -> object:
    return stage(concurency=3)(extract.fn)  # wrong


def option_of_another_type() -> object:
    return stage(concurrency="many")(extract.fn)  # wrong


def ack_mode_unknown() -> object:
    return stage(ack="later")(extract.fn)  # wrong


def retry_as_a_number() -> object:
    return stage(retry=3)(extract.fn)  # wrong


def linger_without_batch() -> object:
    return stage(linger=0.5)(extract.fn)  # wrong


def maxsize_bytes_as_a_fraction() -> object:
    return stage(maxsize_bytes=1.5)(extract.fn)  # wrong


def batch_bytes_without_batch() -> object:
    return stage(batch_bytes=1000)(extract.fn)  # wrong


def copy_with_a_misspelt_option() -> object:
    return extract.options(concurency=3)  # wrong


def retry_misspelt() -> object:
    return Retry(attempt=3)  # wrong


def dedup_misspelt() -> object:
    return Dedup("url", scop="forever")  # wrong


def rate_of_half_a_slot() -> object:
    return Rate(1, concurrency="two")  # wrong


def rate_of_a_key_that_is_a_number() -> object:
    return Rate(1, by="host", keys={"slow.example": 0.1})  # wrong


def rate_without_a_number() -> object:
    return Rate(by="host")  # wrong


def only_checkers_see_a_source_that_yields_nothing() -> object:
    def one() -> Doc:
        return Doc(url="", title="")

    return source(one)  # wrong


def only_checkers_see_a_resource_of_another_type() -> object:
    async def wrong(link: Link, http: int = use(client)) -> None: ...  # wrong

    return wrong


def only_checkers_see_a_plain_value_used_as_resource() -> object:
    def wrong(link: Link, http: Client = use(limit)) -> None: ...  # wrong

    return wrong


async def only_checkers_see_emit_of_another_type(ctx: Context, doc: Doc) -> None:
    await ctx.emit(fetch, doc)  # wrong


async def only_checkers_see_emit_to_a_sink_of_another_type(ctx: Context, row: Row) -> None:
    await ctx.emit(count, row)  # wrong


def only_checkers_see_a_call_with_another_message() -> object:
    return extract(Link(url=""))  # wrong


def only_checkers_see_a_cursor_of_another_type(ctx: SourceContext[int]) -> None:
    ctx.save("three")  # wrong


class ScanOnly(Doc):
    pages: int
