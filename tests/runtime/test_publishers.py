"""Publishers that are shared, reused, or closed at a bad moment work, or say in plain words why not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq import Pipeline, Publisher, SyncPublisher, stage
from flowq.errors import BrokerUnavailable, FlowqError, UsageError
from flowq.inspector import Inspector
from tests.runtime.host import run_program
from tests.runtime.lab import Lab


@stage(maxsize=1)
def take(n: int) -> None: ...


@stage
def take_any(n: int) -> None: ...


PIPELINE = Pipeline("one", take_any)
NARROW = Pipeline("narrow", take)
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def publisher(url: str, unique_namespace: str) -> Publisher:
    return Publisher(PIPELINE, redis=url, namespace=unique_namespace)


@pytest.fixture
def sync_publisher(url: str, unique_namespace: str) -> SyncPublisher:
    return SyncPublisher(PIPELINE, redis=url, namespace=unique_namespace)


async def waiting(lab: Lab) -> int:
    return (await Inspector(PIPELINE.plan, lab.broker(PIPELINE)).balance())["take_any"].waiting


async def test_an_inspector_opens_like_a_publisher_and_only_while_it_is_open(
    publisher: Publisher, url: str, unique_namespace: str
) -> None:
    inspector = Inspector(PIPELINE, redis=url, namespace=unique_namespace)
    async with publisher, inspector:
        await publisher.push(take_any, 1)

        assert (await inspector.balance())["take_any"].waiting == 1

    with pytest.raises(UsageError, match="the inspector is not open"):
        await inspector.balance()


async def test_an_inspector_leaves_a_broker_that_it_was_given_open(lab: Lab) -> None:
    async with Inspector(PIPELINE, lab.broker(PIPELINE)) as inspector:
        pass

    assert (await inspector.balance())["take_any"].waiting == 0


# Publisher


async def test_a_publisher_that_two_tasks_have_entered_is_closed_by_the_last(publisher: Publisher) -> None:
    second_is_in, first_is_out = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with publisher:
            await second_is_in.wait()
            await publisher.push(take_any, 1)
        first_is_out.set()

    async def second() -> None:
        async with publisher:
            second_is_in.set()
            await first_is_out.wait()
            await publisher.push(take_any, 2)

    await asyncio.gather(first(), second())

    with pytest.raises(UsageError, match="not open"):
        await publisher.push(take_any, 3)


async def test_many_tasks_that_enter_at_once_open_one_connection_between_them(publisher: Publisher, lab: Lab) -> None:
    async def use(n: int) -> None:
        async with publisher:
            await publisher.push(take_any, n)

    await asyncio.gather(*(use(n) for n in range(50)))

    assert await waiting(lab) == 50


async def test_a_publisher_can_be_used_again_also_in_another_event_loop(publisher: Publisher, lab: Lab) -> None:
    async def use() -> None:
        async with publisher:
            await publisher.push(take_any, 1)

    await use()
    await use()
    await asyncio.to_thread(lambda: asyncio.run(use()))
    await use()

    assert await waiting(lab) == 4


async def test_a_publisher_that_is_open_in_one_loop_is_refused_in_another(publisher: Publisher) -> None:
    async def enter() -> None:
        async with publisher:
            pass

    async def push() -> None:
        await publisher.push(take_any, 1)

    async with publisher:
        with pytest.raises(UsageError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(enter()))
        with pytest.raises(UsageError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(push()))
        await publisher.push(take_any, 2)


async def test_a_publisher_that_was_left_open_in_a_loop_that_is_gone_opens_anew(publisher: Publisher) -> None:
    def leave_open() -> None:
        asyncio.run(publisher.__aenter__())

    await asyncio.to_thread(leave_open)

    async with publisher:
        await publisher.push(take_any, 1)


async def test_a_publisher_that_could_not_open_can_be_tried_again(unique_namespace: str) -> None:
    publisher = Publisher(PIPELINE, redis=NOBODY, namespace=unique_namespace)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await publisher.__aenter__()
    await publisher.__aexit__()


# SyncPublisher


def test_a_sync_publisher_can_be_used_again_and_nested(sync_publisher: SyncPublisher) -> None:
    for n in range(2):
        with sync_publisher, sync_publisher:
            sync_publisher.push(take_any, n)
        with pytest.raises(UsageError, match="not open"):
            sync_publisher.push(take_any, 3)


def test_a_sync_publisher_that_threads_share_is_closed_by_the_last(sync_publisher: SyncPublisher) -> None:
    together = threading.Barrier(8)
    errors: list[Exception] = []

    def use(n: int) -> None:
        try:
            together.wait()
            for _ in range(5):
                with sync_publisher:
                    sync_publisher.push(take_any, n)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with pytest.raises(UsageError, match="not open"):
        sync_publisher.push(take_any, 1)


def test_a_sync_publisher_that_is_never_entered_opens_once_and_ends_with_the_program(
    url: str, unique_namespace: str, tmp_path: Path
) -> None:
    printed = run_program(tmp_path, NEVER_ENTERED, url, unique_namespace)

    assert printed == {"publishing threads": "1", "after a with": "pushed", "waiting": "101"}


NEVER_ENTERED = """
import asyncio, sys, threading
from flowq import Inspector, Pipeline, SyncPublisher, stage

url, namespace = sys.argv[1:]

@stage
def take(n: int) -> None: ...

pipeline = Pipeline("one", take)
publisher = SyncPublisher(pipeline, redis=url, namespace=namespace)
together = threading.Barrier(10)

def push():
    together.wait()
    for n in range(10):
        publisher.push(take, n)

threads = [threading.Thread(target=push) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("publishing threads:", [thread.name for thread in threading.enumerate()].count("flowq-publisher"))
with publisher:
    pass
publisher.push(take, 1)
print("after a with: pushed")

async def count():
    async with Inspector(pipeline, redis=url, namespace=namespace) as inspector:
        print("waiting:", (await inspector.balance())["take"].waiting)

asyncio.run(count())
"""


def test_a_sync_publisher_that_could_not_open_itself_tries_again(unique_namespace: str) -> None:
    publisher = SyncPublisher(PIPELINE, redis=NOBODY, namespace=unique_namespace)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            publisher.push(take_any, 1)


def test_a_sync_publisher_that_cannot_open_leaves_no_thread_and_no_file(unique_namespace: str) -> None:
    def attempt() -> None:
        with pytest.raises(BrokerUnavailable), SyncPublisher(PIPELINE, redis=NOBODY, namespace=unique_namespace):
            pass

    attempt()
    threads, files = set(threading.enumerate()), n_open_files()
    for _ in range(10):
        attempt()

    assert set(threading.enumerate()) == threads
    assert n_open_files() == files


def n_open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_a_push_that_waits_when_the_publisher_is_closed_ends_in_plain_words(url: str, unique_namespace: str) -> None:
    publisher = SyncPublisher(NARROW, redis=url, namespace=unique_namespace)
    errors: list[FlowqError] = []
    fills_up = threading.Event()

    def numbers() -> Iterator[int]:
        for n in range(1000):
            if n == 999:
                fills_up.set()
            yield n

    def push() -> None:
        try:
            publisher.push_many(take, numbers())
            publisher.push(take, 1)  # the edge is full: waits
        except FlowqError as error:
            errors.append(error)

    with publisher:
        thread = threading.Thread(target=push)
        thread.start()
        assert fills_up.wait(60)
    thread.join(60)

    assert not thread.is_alive()
    (error,) = errors
    assert isinstance(error, UsageError)
    assert "closed" in error.message or "not open" in error.message


def test_messages_that_push_themselves_are_refused_instead_of_waiting_for_ever(sync_publisher: SyncPublisher) -> None:
    def numbers() -> Iterator[int]:
        sync_publisher.push(take_any, 1)
        yield 2

    with sync_publisher, pytest.raises(UsageError, match="busy"):
        sync_publisher.push_many(take_any, numbers())
