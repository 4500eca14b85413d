"""`flowq.run` ends when nothing is left, not before and not much later, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import flowq
from flowq import Context, Pipeline, Retry, stage
from flowq.broker.edges import Edges
from flowq.broker.workers import Workers
from flowq.errors import BrokerRefused, BrokerUnavailable
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab


@flowq.source
def numbers(up_to: int = 10) -> Iterator[Item]:
    yield from (Item(n=n) for n in range(up_to))


@stage
async def double(item: Item) -> Item:
    return Item(n=2 * item.n)


@stage
async def sink(item: Item) -> None: ...


PIPELINE = Pipeline("numbers", numbers >> double >> sink)


async def test_a_run_returns_its_summary(url: str, unique_namespace: str) -> None:
    summary = await flowq.run(PIPELINE, redis=url, namespace=unique_namespace, arguments={"up_to": 50})

    assert (summary.pipeline, summary.drained, summary.dead) == ("numbers", True, 0)
    assert [(name, balance.ok) for name, balance in summary.stages.items()] == [
        ("numbers", 50), ("double", 50), ("sink", 50),
    ]  # fmt: skip
    assert summary.as_json()["stages"]["sink"]["in"] == 50


async def test_a_run_in_memory_needs_no_server() -> None:
    summary = await flowq.run(PIPELINE, redis="memory", arguments={"up_to": 50})

    assert summary.stages["sink"].ok == 50


async def test_a_run_waits_for_what_is_delayed_and_for_what_is_running(url: str, unique_namespace: str) -> None:
    got: list[int] = []

    @stage(retry=Retry(attempts=2, base=0.3, jitter=False))
    async def flaky(item: Item, ctx: Context) -> Item:
        if ctx.attempt == 1:
            raise ConnectionError
        return item

    @stage
    async def slow(item: Item) -> None:
        await asyncio.sleep(0.2)
        got.append(item.n)

    pipeline = Pipeline("p", numbers >> flaky >> slow)
    summary = await flowq.run(pipeline, redis=url, namespace=unique_namespace, arguments={"up_to": 3})

    assert sorted(got) == [0, 1, 2]
    assert summary.seconds >= 0.5


async def test_a_run_of_an_empty_pipeline_ends(url: str, unique_namespace: str) -> None:
    summary = await flowq.run(Pipeline("p", double >> sink), redis=url, namespace=unique_namespace)

    assert summary.drained


async def test_a_message_that_circulates_is_never_taken_for_the_end(url: str, unique_namespace: str) -> None:
    rounds: list[int] = []

    @stage(bounded=True)
    async def ping(item: Item) -> Item | None:
        rounds.append(item.n)
        return Item(n=item.n + 1) if item.n < 300 else None

    @stage
    async def pong(item: Item) -> Item:
        return item

    pipeline = Pipeline("p", ping >> pong >> ping)
    async with flowq.Publisher(pipeline, redis=url, namespace=unique_namespace) as publisher:
        await publisher.push(ping, Item(n=0))
    await flowq.run(pipeline, redis=url, namespace=unique_namespace)

    assert rounds == list(range(301))


async def test_some_stages_can_be_run_apart_from_the_others(lab: Lab, url: str) -> None:
    await lab.push(PIPELINE, double, *[Item(n=n) for n in range(5)])
    running = asyncio.create_task(
        flowq.run(PIPELINE, redis=url, namespace=lab.namespace, stages=["double"], drain=False)
    )

    async def handed_on() -> bool:
        return (await Edges(lab.broker(PIPELINE)).outstanding(["double>sink"]))["double>sink"] == 5

    await eventually(handed_on)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    summary = await flowq.run(PIPELINE, redis=url, namespace=lab.namespace, stages=["sink"])
    assert (summary.stages["double"].ok, summary.stages["sink"].ok) == (5, 5)


async def test_a_run_that_is_cancelled_hands_everything_back_and_signs_off(lab: Lab, url: str) -> None:
    started = asyncio.Event()

    @stage(concurrency=2)
    async def hang(item: Item) -> None:
        started.set()
        await asyncio.sleep(60)

    pipeline = Pipeline("p", hang)
    await lab.push(pipeline, hang, *[Item(n=n) for n in range(10)])
    running = asyncio.create_task(flowq.run(pipeline, redis=url, namespace=lab.namespace, grace=0.05))
    await started.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    balance = (await lab.balance(pipeline))["hang"]
    assert (balance.waiting, balance.running, balance.entered) == (10, 0, 10)
    assert await Workers(lab.broker(pipeline)).registered() == {}


async def test_a_drained_run_leaves_only_what_the_next_one_needs(lab: Lab, url: str) -> None:
    @stage(dedup="n", retry=Retry(attempts=2, base=0, max=0))
    async def flaky(item: Item, ctx: Context) -> Item:
        if ctx.attempt == 1:
            raise ConnectionError
        return item

    pipeline = Pipeline("p", numbers >> flaky >> sink)
    await flowq.run(pipeline, redis=url, namespace=lab.namespace)

    keys = lab.broker(pipeline).keys
    found = {key.decode() for key in await lab.command(b"KEYS", f"{lab.namespace}:*")}
    edges = {keys.edge(edge.name) for edge in pipeline.plan.edges}
    passing = {key for key in found if await lab.command(b"PTTL", key) > 0}
    answered = {key for key in passing if key.startswith(keys.answered(""))}
    assert passing - answered <= set(keys.throughput())
    kept = {keys.run, keys.stats, keys.failures, keys.published, keys.seen("flaky"), keys.plan, keys.clock}
    assert found - edges - passing <= kept
    for edge in edges & found:
        assert await lab.command(b"XLEN", edge) == 0


async def test_a_second_run_starts_with_clean_counters(url: str, unique_namespace: str) -> None:
    first = await flowq.run(PIPELINE, redis=url, namespace=unique_namespace)
    second = await flowq.run(PIPELINE, redis=url, namespace=unique_namespace)

    assert first.run != second.run
    assert first.stages["sink"].ok == second.stages["sink"].ok == 10


async def test_a_fresh_run_throws_away_what_was_left(lab: Lab, url: str) -> None:
    await lab.push(PIPELINE, double, *[Item(n=n) for n in range(5)])

    summary = await flowq.run(PIPELINE, redis=url, namespace=lab.namespace, fresh=True)

    assert summary.stages["double"].entered == 10


async def test_a_fresh_run_of_some_stages_starts_over_too(lab: Lab, url: str) -> None:
    await lab.push(PIPELINE, double, *[Item(n=n) for n in range(5)])

    summary = await flowq.run(PIPELINE, redis=url, namespace=lab.namespace, stages=["double", "sink"], fresh=True)

    assert (summary.drained, summary.stages["double"].entered) == (True, 0)


async def test_two_pipelines_in_one_process_and_database_keep_apart(url: str, unique_namespace: str) -> None:
    got: dict[str, list[int]] = {"a": [], "b": []}

    def pipeline(name: str, offset: int) -> Pipeline:
        @stage
        async def shift(item: Item) -> Item:
            return Item(n=item.n + offset)

        @stage
        async def keep(item: Item) -> None:
            got[name].append(item.n)

        return Pipeline(name, numbers >> shift >> keep)

    await asyncio.gather(
        *(
            flowq.run(pipeline(name, offset), redis=url, namespace=unique_namespace)
            for name, offset in (("a", 0), ("b", 100))
        )
    )

    assert sorted(got["a"]) == list(range(10))
    assert sorted(got["b"]) == list(range(100, 110))


async def test_two_runs_of_one_pipeline_share_its_messages(lab: Lab, url: str) -> None:
    got: list[int] = []

    @stage(concurrency=2)
    async def keep(item: Item) -> None:
        await asyncio.sleep(0.002)
        got.append(item.n)

    pipeline = Pipeline("p", keep)
    await lab.push(pipeline, keep, *[Item(n=n) for n in range(200)])
    await asyncio.gather(*(flowq.run(pipeline, redis=url, namespace=lab.namespace) for _ in range(2)))

    assert sorted(got) == list(range(200))


# What ends a run


async def test_a_server_that_is_not_there_is_named(unique_namespace: str) -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await flowq.run(PIPELINE, redis="redis://127.0.0.1:1/0", namespace=unique_namespace)


@pytest.mark.parametrize("edge", [">double", "double>sink", ">sink"])
async def test_an_edge_of_the_wrong_type_ends_the_run_and_loses_nothing(edge: str, lab: Lab, url: str) -> None:
    keys = lab.broker(PIPELINE).keys
    if edge != ">double":
        await lab.push(PIPELINE, double, *[Item(n=n) for n in range(5)])
    await lab.command(b"SET", keys.edge(edge), b"somebody else's")

    with pytest.raises(BrokerRefused):
        await asyncio.wait_for(flowq.run(PIPELINE, redis=url, namespace=lab.namespace), 60)

    await lab.command(b"DEL", keys.edge(edge))
    assert await Workers(lab.broker(PIPELINE)).registered() == {}
    summary = await flowq.run(PIPELINE, redis=url, namespace=lab.namespace)
    assert summary.stages["sink"].ok == (10 if edge == ">double" else 15)


async def test_an_output_key_that_turns_wrong_while_running_ends_the_run_and_loses_no_input(lab: Lab, url: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    got: list[int] = []

    @stage(concurrency=3)
    async def hand_on(item: Item) -> Item:
        started.set()
        await go_on.wait()
        return item

    @stage
    async def keep(item: Item) -> None:
        got.append(item.n)

    pipeline = Pipeline("p", hand_on >> keep)
    key = lab.broker(pipeline).keys.edge("hand_on>keep")
    await lab.push(pipeline, hand_on, *[Item(n=n) for n in range(10)])
    running = asyncio.create_task(
        flowq.run(pipeline, redis=url, namespace=lab.namespace, stages=["hand_on"], grace=0.5)
    )
    await started.wait()
    await lab.command(b"SET", key, b"somebody else's")
    go_on.set()
    with pytest.raises(BrokerRefused, match="hand_on>keep"):
        await asyncio.wait_for(running, 60)

    await lab.command(b"DEL", key)
    await flowq.run(pipeline, redis=url, namespace=lab.namespace)
    assert sorted(got) == list(range(10))
