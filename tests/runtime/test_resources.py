"""Resources: opened once before the first message, closed after the last, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

import flowq
from flowq import Pipeline, resource, source, stage, use
from flowq.broker.edges import Edges
from flowq.broker.workers import Workers
from flowq.errors import BrokerRefused
from flowq.runtime.process.ending import StopSignals
from flowq.runtime.process.runner import Runner
from flowq.runtime.process.worker import work
from flowq.runtime.resources import ResourceFailed
from flowq.runtime.run import RunOptions
from tests.runtime.lab import Item, Lab

log: list[str] = []


@pytest.fixture(autouse=True)
def _clear_log() -> None:
    log.clear()


def recorded(name: str, **requires: Any) -> Any:
    """A resource that writes down its life."""

    @resource
    async def it() -> AsyncIterator[str]:
        log.append(f"open {name}")
        yield name
        log.append(f"close {name}")

    return it


async def test_a_resource_is_opened_once_for_all_stages_and_closed_after_the_last_message(lab: Lab) -> None:
    client = recorded("client")

    @stage
    async def first(item: Item, client: str = use(client)) -> Item:
        log.append(f"first with {client}")
        return item

    @stage
    async def second(item: Item, client: str = use(client)) -> None:
        log.append(f"second with {client}")

    await lab.run(Pipeline("p", first >> second), Item(), Item())

    assert log[0] == "open client"
    assert sorted(log[1:-1]) == ["first with client"] * 2 + ["second with client"] * 2
    assert log[-1] == "close client"


async def test_what_a_resource_requires_is_opened_before_it_and_closed_after_it(lab: Lab) -> None:
    @resource
    def settings() -> Iterator[str]:
        log.append("open settings")
        yield "settings"
        log.append("close settings")

    @resource
    async def database(settings: str = use(settings)) -> AsyncIterator[str]:
        log.append(f"open database with {settings}")
        yield "database"
        log.append("close database")

    @stage
    async def handler(item: Item, database: str = use(database), settings: str = use(settings)) -> None:
        log.append("handle")

    await lab.run(Pipeline("p", handler), Item())

    assert log == ["open settings", "open database with settings", "handle", "close database", "close settings"]


async def test_every_shape_of_resource_is_lent(lab: Lab) -> None:
    got: list[tuple[str, str, str, str]] = []

    @resource
    def function() -> str:
        return "function"

    @resource
    async def coroutine() -> str:
        return "coroutine"

    @resource
    def generator() -> Iterator[str]:
        yield "generator"

    @resource
    async def async_generator() -> AsyncIterator[str]:
        yield "async generator"

    @stage
    def handler(
        item: Item,
        a: str = use(function),
        b: str = use(coroutine),
        c: str = use(generator),
        d: str = use(async_generator),
    ) -> None:
        got.append((a, b, c, d))

    await lab.run(Pipeline("p", handler), Item())

    assert got == [("function", "coroutine", "generator", "async generator")]


async def test_an_unused_resource_is_not_opened(lab: Lab) -> None:
    used, unused = recorded("used"), recorded("unused")

    @stage
    async def one(item: Item, it: str = use(used)) -> None: ...

    @stage
    async def two(item: Item, it: str = use(unused)) -> None: ...

    pipeline = Pipeline("p", one, two)
    async with lab.running(pipeline, stages=["one"]):
        pass

    assert log == ["open used", "close used"]


# Failing


def failing_pipeline(how: str) -> tuple[Pipeline, Any]:
    first = recorded("first")

    @resource
    async def broken(first: str = use(first)) -> AsyncIterator[str]:
        if how == "raises":
            raise ConnectionError("no route to host")
        if how == "gives nothing":
            return
        yield "never"

    @stage
    async def handler(item: Item, it: str = use(broken)) -> None:
        log.append("handled")

    return Pipeline("p", handler), handler


@pytest.mark.parametrize("how", ["raises", "gives nothing"])
async def test_a_resource_that_cannot_open_ends_the_run_and_closes_those_before(how: str, lab: Lab, url: str) -> None:
    pipeline, handler = failing_pipeline(how)
    await lab.push(pipeline, handler, Item())

    with pytest.raises(ResourceFailed, match="broken"):
        await flowq.run(pipeline, redis=url, namespace=lab.namespace)

    assert log == ["open first", "close first"]
    broker = lab.broker(pipeline)
    assert await Workers(broker).registered() == {}
    assert (await Edges(broker).outstanding([">handler"])) == {">handler": 1}


class Unspeakable(Exception):
    """As when its text reads an attribute that was never set."""

    def __str__(self) -> str:
        raise AttributeError("no such attribute")

    __repr__ = __str__


@pytest.mark.parametrize("when", ["opens", "closes"])
async def test_an_error_that_cannot_be_shown_is_named_by_its_type(when: str) -> None:
    @resource
    async def broken() -> AsyncIterator[str]:
        if when == "opens":
            raise Unspeakable
        yield "broken"
        raise Unspeakable

    @stage
    async def handler(item: Item, it: str = use(broken)) -> None: ...

    with pytest.raises(ResourceFailed, match=r"broken.*Unspeakable"):
        await flowq.run(Pipeline("p", handler), redis="memory")


async def test_a_resource_that_does_not_open_does_not_hold_up_a_stop() -> None:
    opening = asyncio.Event()

    @resource
    async def never() -> AsyncIterator[str]:
        opening.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("given up")
        yield "never"

    @stage
    async def handler(item: Item, first: str = use(recorded("first")), it: str = use(never)) -> None: ...

    running = asyncio.create_task(flowq.run(Pipeline("p", handler), redis="memory", grace=3600))
    await opening.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert log == ["open first", "given up", "close first"]


async def test_a_task_group_of_a_resource_that_fails_ends_the_run_and_is_named() -> None:
    handling = asyncio.Event()

    async def refresh() -> None:
        await handling.wait()
        raise ConnectionError("refreshing failed")

    @resource
    async def refreshed(first: str = use(recorded("first"))) -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as group:
            group.create_task(refresh())
            yield "refreshed"

    @source
    def numbers() -> Iterator[Item]:
        yield Item()

    @stage
    async def handler(item: Item, it: str = use(refreshed)) -> None:
        handling.set()
        await asyncio.Event().wait()

    with pytest.raises(ResourceFailed, match=r"refreshed.*refreshing failed"):
        await flowq.run(Pipeline("p", numbers >> handler), redis="memory", grace=0)

    assert log == ["open first", "close first"]


async def test_a_worker_tells_which_resource_could_not_be_opened(lab: Lab) -> None:
    pipeline, _ = failing_pipeline("raises")

    with pytest.raises(ResourceFailed, match="no route to host"):
        await work(pipeline.plan, lab.broker(pipeline), RunOptions(), sources=(), quarantined=False, stop=StopSignals())

    assert log == ["open first", "close first"]


async def test_a_resource_that_fails_to_close_keeps_no_other_from_closing(lab: Lab) -> None:
    first = recorded("first")

    @resource
    async def stubborn(first: str = use(first)) -> AsyncIterator[str]:
        yield "stubborn"
        raise ConnectionError("was closed already")

    @stage
    async def handler(item: Item, it: str = use(stubborn)) -> None: ...

    pipeline = Pipeline("p", handler)
    await lab.push(pipeline, handler, Item())
    with pytest.raises(ResourceFailed, match=r"stubborn.*was closed already"):
        await lab.run(pipeline)

    assert log == ["open first", "close first"]
    assert await Workers(lab.broker(pipeline)).registered() == {}
    assert (await lab.balance(pipeline))["handler"].ok == 1


async def test_resources_are_closed_after_the_handlers_that_were_interrupted(lab: Lab) -> None:
    client = recorded("client")
    started = asyncio.Event()

    @stage
    async def handler(item: Item, it: str = use(client)) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            log.append("handler ends")

    pipeline = Pipeline("p", handler)
    await lab.push(pipeline, handler, Item())
    async with lab.running(pipeline, grace_seconds=0.02):
        await started.wait()

    assert log == ["open client", "handler ends", "close client"]


# Not coming to an end


@pytest.mark.parametrize("swallows", [False, True], ids=["waits", "swallows its cancellation"])
async def test_a_resource_that_hangs_at_its_end_is_given_up_and_named(swallows: bool, lab: Lab, url: str) -> None:
    first, free = recorded("first"), asyncio.Event()

    @resource
    async def stuck(first: str = use(first)) -> AsyncIterator[str]:
        yield "stuck"
        try:
            await free.wait()
        except asyncio.CancelledError:
            if not swallows:
                raise
            await free.wait()

    @stage
    async def handler(item: Item, it: str = use(stuck)) -> None: ...

    pipeline = Pipeline("p", handler)
    await lab.push(pipeline, handler, Item())
    with pytest.raises(ResourceFailed, match=r"stuck.*grace") as raised:
        await flowq.run(pipeline, redis=url, namespace=lab.namespace, grace=0.1)
    free.set()

    assert raised.value.code == "FQ301"
    assert raised.value.summary is not None
    assert raised.value.summary.stages["handler"].ok == 1
    assert await Workers(lab.broker(pipeline)).registered() == {}
    if not swallows:
        assert log == ["open first", "close first"]


async def test_what_is_below_a_contextmanager_is_entered_and_left(lab: Lab) -> None:
    got: list[str] = []

    @resource
    @asynccontextmanager
    async def client() -> AsyncIterator[str]:
        log.append("open client")
        yield "client"
        log.append("close client")

    @resource
    @contextmanager
    def database() -> Iterator[str]:
        log.append("open database")
        yield "database"
        log.append("close database")

    @stage
    async def handler(item: Item, client: str = use(client), database: str = use(database)) -> None:
        got.append(f"{client} {database}")

    await lab.run(Pipeline("p", handler), Item())

    assert got == ["client database"]
    assert log == ["open client", "open database", "close database", "close client"]


async def test_a_stop_releases_the_lease_and_the_resources_whatever_has_failed_before(lab: Lab) -> None:
    client = recorded("client")

    @stage
    async def handler(item: Item, it: str = use(client)) -> None: ...

    pipeline = Pipeline("p", handler)
    runner = Runner(pipeline.plan, lab.broker(pipeline), RunOptions())
    await runner.start()
    await lab.command(b"DEL", lab.broker(pipeline).keys.edge(">handler"))
    await lab.command(b"SET", lab.broker(pipeline).keys.edge(">handler"), b"not a stream")
    with contextlib.suppress(BrokerRefused):
        await runner.stop()

    assert log == ["open client", "close client"]
    assert await Workers(lab.broker(pipeline)).registered() == {}
