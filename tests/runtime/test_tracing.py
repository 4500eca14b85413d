"""Traces in one process: what is a span, its parent, and what a handler finds around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flowq
from flowq.runtime.handlers.tracing import Tracing
from flowq.runtime.process.in_process import until_drained
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from tests.runtime.lab import Item, Lab
from tests.runtime.process_stages import PIPELINE, Work


async def traced(lab: Lab, pipeline: flowq.Pipeline, *messages: Any) -> list[ReadableSpan]:
    """The spans of a run that settles these messages."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    broker = lab.broker(pipeline)
    if messages:
        await lab.push(pipeline, pipeline.plan.consumers[0].name, *messages)
    runner = Runner(pipeline.plan, broker, RunOptions(), observer=Tracing(pipeline.name, provider))
    async with asyncio.timeout(60):
        await runner.start()
        try:
            await until_drained(Run(pipeline.plan, broker), runner)
        finally:
            await runner.stop()
    return list(exporter.get_finished_spans())


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert span.parent is not None
    return span.parent.span_id == parent.get_span_context().span_id


async def test_a_handler_finds_its_span_around_it_also_in_a_thread(lab: Lab) -> None:
    found: list[int] = []

    @flowq.stage
    def blocking(item: Item) -> Item:
        found.append(trace.get_current_span().get_span_context().span_id)
        return item

    @flowq.stage
    async def on_loop(item: Item) -> None:
        found.append(trace.get_current_span().get_span_context().span_id)

    spans = await traced(lab, flowq.Pipeline("lab", blocking >> on_loop), Item(n=1))

    (first,), (second,) = named(spans, "process blocking"), named(spans, "process on_loop")
    assert found == [first.get_span_context().span_id, second.get_span_context().span_id]
    assert is_child(second, first)
    assert first.parent is None


async def test_a_program_switches_traces_on_with_its_own_provider(redis_url: str, unique_namespace: str) -> None:
    found: list[bool] = []

    @flowq.source
    def numbers() -> Iterator[int]:
        yield from range(2)

    @flowq.stage
    async def look(number: int) -> None:
        found.append(bool(get_current()))  # the context of a span

    pipeline = flowq.Pipeline("lab", numbers >> look)
    for traces in (False, True):
        await flowq.run(pipeline, redis=redis_url, namespace=unique_namespace, traces=traces)

    assert found == [False, False, True, True]


async def test_messages_that_a_slot_handles_one_after_another_are_traces_of_their_own(lab: Lab) -> None:
    @flowq.stage(concurrency=1)
    async def only(item: Item) -> None: ...

    spans = await traced(lab, flowq.Pipeline("lab", only), *[Item(n=n) for n in range(5)])

    assert len({span.get_span_context().trace_id for span in spans}) == 5


async def test_what_a_handler_commits_before_it_ends_is_part_of_its_trace(lab: Lab) -> None:
    @flowq.stage
    async def store(item: Item) -> None: ...

    @flowq.stage(ack="manual")
    async def early(item: Item, ctx: flowq.Context) -> None:
        await ctx.emit(store, Item(n=2))
        await ctx.ack()

    spans = await traced(lab, flowq.Pipeline("lab", early, store), Item(n=1))

    (parent,), (child,) = named(spans, "process early"), named(spans, "process store")
    assert is_child(child, parent)


async def test_a_batch_is_one_span_and_what_it_gives_are_its_children(lab: Lab) -> None:
    @flowq.stage(batch=3, linger=5.0)
    async def together(items: list[Item]) -> list[Item]:
        return items

    @flowq.stage
    async def store(item: Item) -> None: ...

    spans = await traced(lab, flowq.Pipeline("lab", together >> store), *[Item(n=n) for n in range(3)])

    (batch,) = named(spans, "process together")
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in batch.attributes
    assert all(is_child(span, batch) for span in named(spans, "process store"))
    assert len(named(spans, "process store")) == 3


async def test_a_handler_in_another_process_has_its_span_here(lab: Lab) -> None:
    spans = await traced(lab, PIPELINE, Work(what="count", n=1), Work(what="reject", n=2))

    rejected, heavy = sorted(named(spans, "process heavy"), key=lambda span: span.status.is_ok)
    (collect,) = named(spans, "process collect")
    assert is_child(collect, heavy)
    assert rejected.attributes is not None
    assert rejected.attributes["error.type"] == "Reject"


async def test_a_body_that_cannot_be_read_is_a_span_with_its_error(lab: Lab) -> None:
    @flowq.stage(retry=flowq.Retry(attempts=1))
    async def only(item: Item) -> None: ...

    pipeline = flowq.Pipeline("lab", only)
    await lab.command(b"XADD", lab.broker(pipeline).keys.edge(">only"), b"*", b"b", b"not json")
    spans = await traced(lab, pipeline)

    (span,) = spans
    assert span.attributes is not None
    assert span.attributes["error.type"] == "DecodeError"
    assert span.status.status_code is trace.StatusCode.ERROR
