"""`flowq.run` in a user's program: it refuses what it would have to ignore, and leaves no permanent changes."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import contextvars
import fcntl
import gc
import logging
import signal
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import flowq
from flowq import Pipeline, Publisher, source, stage
from flowq.errors import NotFound, PipelineError, UsageError
from tests.eventually import eventually
from tests.runtime.host import run_program

SEEN: list[int] = []


@source
def numbers(n: int = 3) -> Iterator[int]:
    yield from range(n)


@stage
def double(n: int) -> int:
    return 2 * n


@stage
async def keep(n: int) -> None:
    SEEN.append(n)


PIPELINE = Pipeline("host", numbers >> double >> keep)


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


# What cannot be done is refused


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"stages": ["typo"]}, NotFound, 'no stage "typo"'),
        ({"stages": "double"}, UsageError, "not a list"),
        ({"stages": [double]}, NotFound, "no stage"),
        ({"arguments": {"limit": 3}}, UsageError, 'accepts an argument "limit"'),
        ({"arguments": {"n": "many"}}, UsageError, "does not fit"),
        ({"concurrency": {"typo": 2}}, PipelineError, "typo"),
        ({"durability": "eternal"}, UsageError, "durability"),
        ({"lease": 0}, UsageError, "lease"),
        ({"lease": -1}, UsageError, "lease"),
        ({"grace": float("nan")}, UsageError, "grace"),
        ({"grace": "soon"}, UsageError, "grace"),
    ],
)
async def test_what_a_run_would_have_to_ignore_is_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    given: dict[str, Any] = {"redis": "memory", **options}
    with pytest.raises(error, match=says):
        await flowq.run(PIPELINE, **given)
    assert SEEN == []


async def test_stages_may_be_given_by_anything_that_can_be_iterated_once() -> None:
    await flowq.run(PIPELINE, redis="memory", stages=iter(["numbers", "double", "keep"]))  # type: ignore[arg-type]
    assert sorted(SEEN) == [0, 2, 4]


async def test_durations_may_be_written_as_everywhere_else() -> None:
    await flowq.run(PIPELINE, redis="memory", lease="20s", grace="1m")  # type: ignore[arg-type]
    assert sorted(SEEN) == [0, 2, 4]


# What a program had stays as it was


def threads_of_flowq() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("flowq")}


def state_of(what: str) -> Any:
    match what:
        case "signal handlers":
            return {number: signal.getsignal(number) for number in signal.valid_signals()}
        case "logging":
            loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
            return [(log.name, log.level, log.handlers[:], log.disabled, log.propagate) for log in loggers]
        case "garbage collector":
            return gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
        case "context":
            return dict(contextvars.copy_context())
        case _:
            return threads_of_flowq()


@pytest.mark.parametrize("server", ["memory", "bundled"])
@pytest.mark.parametrize("what", ["signal handlers", "logging", "garbage collector", "context", "threads"])
async def test_after_a_run_the_program_is_as_before(
    what: str, server: str, request: pytest.FixtureRequest, unique_namespace: str
) -> None:
    url = request.getfixturevalue("url") if server == "bundled" else server
    await flowq.run(PIPELINE, redis=url, namespace=unique_namespace)  # what is imported on the way may stay
    before = set[str]() if what == "threads" else state_of(what)

    await flowq.run(PIPELINE, redis=url, namespace=unique_namespace)

    await comes_true(lambda: state_of(what) == before)


@pytest.mark.parametrize("what", ["signal handlers", "logging", "garbage collector", "context", "threads"])
async def test_a_run_that_is_cancelled_leaves_the_program_as_before(what: str) -> None:
    await flowq.run(PIPELINE, redis="memory")
    before = set[str]() if what == "threads" else state_of(what)
    started = asyncio.Event()

    @stage
    async def stay(n: int) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(flowq.run(Pipeline("long", numbers >> stay), redis="memory", grace=0.0))
    await started.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    await comes_true(lambda: state_of(what) == before)


async def test_a_run_that_is_cancelled_again_while_it_stops_hands_back_at_once_and_leaves_no_task() -> None:
    started, stopping = asyncio.Event(), asyncio.Event()

    @stage(concurrency=1)
    async def stay(n: int) -> None:
        started.set()
        await asyncio.Event().wait()

    @source
    async def feed() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            stopping.set()

    before = asyncio.all_tasks()
    running = asyncio.create_task(flowq.run(Pipeline("long", feed >> stay), redis="memory", grace=3600.0))
    await started.wait()
    running.cancel()
    await stopping.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert asyncio.all_tasks() == before


async def comes_true(condition: Callable[[], bool]) -> None:
    """Threads that were told to end need a moment."""
    await eventually(condition)


async def test_what_the_program_drops_is_freed_during_and_after_a_run() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    before, during = Cycle(), list[weakref.ref[Cycle]]()
    refs = [weakref.ref(before)]

    @stage
    def look(n: int) -> None:
        during.append(weakref.ref(Cycle()))

    running = asyncio.create_task(flowq.run(Pipeline("collected", numbers >> look), redis="memory"))
    del before
    await running
    gc.collect()

    assert [ref() for ref in (*refs, *during)] == [None] * 4


async def test_a_threshold_that_the_program_sets_stays(unique_namespace: str) -> None:
    found = gc.get_threshold()

    @stage
    def tune(n: int) -> None:
        gc.set_threshold(1234)

    try:
        await flowq.run(Pipeline("tuning", numbers >> tune), redis="memory")
        assert gc.get_threshold()[0] == 1234
        await asyncio.gather(*(flowq.run(PIPELINE, redis="memory") for _ in range(3)))
        assert gc.get_threshold()[0] == 1234
    finally:
        gc.set_threshold(*found)


async def test_runs_side_by_side_leave_the_collector_as_the_first_found_it() -> None:
    found = gc.get_threshold()
    await asyncio.gather(*(flowq.run(PIPELINE, redis="memory") for _ in range(3)))
    assert gc.get_threshold() == found


# The loop of the program is never blocked


async def test_starting_flowqs_server_does_not_block_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the folder as a stopping server does: new users have to wait for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".flowq").mkdir()
    with (tmp_path / ".flowq" / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening = asyncio.create_task(Publisher(PIPELINE, redis="embedded").__aenter__())
        await asyncio.sleep(0)  # it has begun
        assert not opening.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
    publisher = await opening
    await publisher.push(double, 1)
    await publisher.__aexit__()


async def test_who_stops_waiting_for_the_server_of_flowq_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".flowq").mkdir()
    with (tmp_path / ".flowq" / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening = asyncio.create_task(Publisher(PIPELINE, redis="embedded").__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        fcntl.flock(lock, fcntl.LOCK_UN)
        await comes_true(lambda: "flowq-embedded" not in threads_of_flowq())
        await comes_true(lambda: is_free(lock.fileno()))


def is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Where programs run


async def test_it_runs_in_a_test_of_pytest_asyncio() -> None:
    summary = await flowq.run(PIPELINE, redis="memory")
    assert summary.drained
    assert sorted(SEEN) == [0, 2, 4]


def test_it_runs_in_the_loop_of_a_notebook_cell_after_cell() -> None:
    """A notebook keeps one loop running, and awaits each cell in it, compiled with top-level await."""
    names: dict[str, Any] = {"flowq": flowq, "PIPELINE": PIPELINE, "Publisher": Publisher}
    cell = "summary = await flowq.run(PIPELINE, redis='memory')"
    loop = asyncio.new_event_loop()
    try:
        for _ in range(3):
            code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            loop.run_until_complete(eval(code, names))
            assert names["summary"].drained
    finally:
        loop.close()
    assert sorted(SEEN) == sorted([0, 2, 4] * 3)


def test_it_runs_beside_the_requests_of_a_web_application(url: str, unique_namespace: str) -> None:
    publisher = Publisher(PIPELINE, redis=url, namespace=unique_namespace)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        running = asyncio.create_task(
            flowq.run(PIPELINE, redis=url, namespace=unique_namespace, stages=["double", "keep"], drain=False)
        )
        async with publisher:
            yield
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def order(request: Request) -> JSONResponse:
        async with publisher:  # as each request may do: the application stays open
            await publisher.push(double, int(request.path_params["n"]))
        await comes_true(lambda: 2 * int(request.path_params["n"]) in SEEN)
        return JSONResponse({"seen": len(SEEN)})

    with TestClient(Starlette(routes=[Route("/{n}", order)], lifespan=lifespan)) as client:
        assert [client.get(f"/{n}").json()["seen"] for n in (7, 8, 9)] == [1, 2, 3]


@pytest.mark.parametrize("how", ["after a run", "during a run", "of multiprocessing"])
def test_it_runs_in_a_forked_child_as_well(how: str, url: str, unique_namespace: str, tmp_path: Path) -> None:
    told = run_program(tmp_path, FORKED, how, url, unique_namespace)
    assert told == {"parent": "True 3", "child": "True 3"}


FORKED = """
import asyncio, multiprocessing, os, sys, warnings
from collections.abc import Iterator
import flowq
from flowq import Pipeline, source, stage

warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
how, url, namespace = sys.argv[1:]

@source
def numbers() -> Iterator[int]:
    yield from range(3)

@stage
def take(n: int) -> None: ...

def run(who):
    summary = asyncio.run(flowq.run(Pipeline(who, numbers >> take), redis=url, namespace=namespace))
    print(f"{who}: {summary.drained} {summary.stages['take'].ok}", flush=True)

def child():
    asyncio._set_running_loop(None)  # as multiprocessing does
    run("child")
    os._exit(0)

def fork():
    pid = os.fork()
    if pid == 0:
        child()
    assert os.waitpid(pid, 0)[1] == 0

if how == "during a run":
    @stage
    def take(n: int) -> None:
        if n == 0 and "forked" not in globals():
            globals()["forked"] = True
            fork()
    run("parent")
else:
    run("parent")
    if how == "after a run":
        fork()
    else:
        process = multiprocessing.get_context("fork").Process(target=run, args=("child",))
        process.start()
        process.join()
        assert process.exitcode == 0
"""
