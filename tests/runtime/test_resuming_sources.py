"""Sources that resume: killed at any moment and started again, they neither repeat nor skip."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowq import Pipeline, SourceContext, source, stage
from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.errors import UsageError
from flowq.runtime.housekeeping.pause_watch import PauseWatch
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions
from flowq.runtime.sources.source_runner import SourceFailed, SourceRunner
from flowq.runtime.stage.writing import Writing
from flowq.sources import ndjson
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab
from tests.runtime.resuming import NUMBERS

ROOT = Path(__file__).parents[2]
KILLS = 6


def written(which: str, folder: Path) -> tuple[list[int], int]:
    """Files with numbers in order and some rows that are none; returns the numbers, and how many rows are bad."""
    if "generator" in which:
        return list(range(NUMBERS)), 0
    numbers, n_bad = list(range(NUMBERS)), 0
    for part, first in enumerate(range(0, NUMBERS, NUMBERS // 4)):
        rows = [str(n) for n in numbers[first : first + NUMBERS // 4]]
        for at in range(50, len(rows), 1000):
            rows.insert(at, "not a number")
            n_bad += 1
        content = "n\n" + "\n".join(rows) if which == "csv" else "\n".join(f'{{"n":{row}}}' for row in rows)
        name = folder / f"{part}.{which}"
        if part % 2:
            name.write_text(content)
        else:
            name.with_name(name.name + ".gz").write_bytes(gzip.compress(content.encode()))
    return numbers, n_bad


@pytest.mark.parametrize("which", ["ndjson", "csv", "generator", "async generator"])
async def test_a_source_killed_at_random_moments_neither_repeats_nor_skips(
    which: str, lab: Lab, url: str, tmp_path: Path
) -> None:
    numbers, n_bad = written(which, tmp_path)
    keys = Keys(lab.namespace, "resuming")
    command = [sys.executable, "-m", "tests.runtime.resuming", which, url, lab.namespace, str(tmp_path)]
    command = ["nice", *command]  # on a busy machine it must not be done before this test gets to kill it
    chance = random.Random(which)

    async def cursor_and_source() -> tuple[Any, bytes]:
        cursor = await lab.command(b"HVALS", keys.cursors)
        return cursor, await lab.command(b"HGET", keys.run, "source:rows") or b""

    async def has_moved_from(before: Any) -> bool:
        cursor, source = await cursor_and_source()
        return bool(cursor != before) or source.startswith(b"done")

    async def is_done() -> bool:
        return (await cursor_and_source())[1].startswith(b"done")

    n_cut_short = 0
    for _ in range(KILLS):
        before, _ = await cursor_and_source()
        with killed_in_the_end(command):
            await eventually(partial(has_moved_from, before))
            await asyncio.sleep(chance.random() * 0.03)
        n_cut_short += not await is_done()
    with killed_in_the_end(command):
        await eventually(is_done)

    assert n_cut_short >= KILLS // 2, "the kills came too late to show anything"
    for stage_name in ("odd", "all_of_them"):
        entries = await lab.command(b"XRANGE", keys.edge(f"rows>{stage_name}"), b"-", b"+")
        assert [json.loads(fields[3])["n"] for _, fields in entries] == numbers
        assert await lab.command(b"XLEN", keys.dead(stage_name)) == n_bad


@contextmanager
def killed_in_the_end(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@source
def counting(ctx: SourceContext[int], up_to: int = 10) -> Iterator[Item]:
    for n in range(ctx.cursor or 0, up_to):
        yield Item(n=n)
        ctx.save(n + 1)


def collecting(got: list[int]) -> Any:
    @stage
    async def sink(item: Item) -> None:
        got.append(item.n)

    return sink


async def test_a_later_run_gives_what_has_come_since_and_a_fresh_one_gives_everything(any_lab: Lab) -> None:
    got: list[int] = []
    lab, up_to = any_lab, 10

    @source
    def growing(ctx: SourceContext[int]) -> Iterator[Item]:
        for n in range(ctx.cursor or 0, up_to):
            yield Item(n=n)
            ctx.save(n + 1)

    pipeline = Pipeline("p", growing >> collecting(got))
    await lab.run(pipeline)
    up_to = 12
    await lab.run(pipeline)

    assert sorted(got) == list(range(12))

    await Run(pipeline.plan, lab.broker(pipeline)).begin(RunOptions(), fresh=True)
    got.clear()
    await lab.run(pipeline)

    assert sorted(got) == list(range(12))


async def test_other_arguments_have_a_cursor_of_their_own(lab: Lab) -> None:
    got: list[int] = []
    pipeline = Pipeline("p", counting >> collecting(got))

    for up_to in (5, 3, 5):
        await lab.run(pipeline, arguments={"up_to": up_to})

    assert sorted(got) == [0, 0, 1, 1, 2, 2, 3, 4]


async def test_an_interrupted_source_resumes_in_the_next_run(lab: Lab) -> None:
    got: list[int] = []
    blocked = True

    @source
    async def waiting(ctx: SourceContext[int]) -> AsyncIterator[Item]:
        for n in range(ctx.cursor or 0, 10):
            if n == 4 and blocked:
                yield Item(n=n)  # its cursor never comes
                await asyncio.Event().wait()
            yield Item(n=n)
            ctx.save(n + 1)

    pipeline = Pipeline("p", waiting >> collecting(got))
    broker, options = lab.broker(pipeline), RunOptions()
    run = Run(pipeline.plan, broker)
    runner = Runner(pipeline.plan, broker, options, sources=await run.begin(options))
    await runner.start()
    await eventually(lambda: sorted(got) == [0, 1, 2, 3])
    await runner.stop()
    blocked = False

    await lab.run(pipeline)

    assert sorted(got) == list(range(10))


async def test_two_workers_that_run_one_source_give_everything_once(lab: Lab) -> None:
    got: list[int] = []
    pipeline = Pipeline("p", counting >> collecting(got))
    arguments: dict[str, Any] = {"up_to": 5000}
    options = RunOptions(arguments=arguments)
    runs = [Run(pipeline.plan, lab.broker(pipeline)) for _ in range(2)]
    for run in runs:
        await run.begin(options)

    workers = ("first", "second")
    runners = [await _source_runner(pipeline, lab, worker) for worker in workers]
    await asyncio.gather(*(runner.run(arguments, {}, options.signature()) for runner in runners))
    await Workers(lab.broker(pipeline)).forget(workers)
    await lab.run(pipeline, arguments=arguments)

    assert sorted(got) == list(range(5000))


async def test_a_cursor_that_redis_has_lost_with_its_messages_is_gone_back_to(lab: Lab) -> None:
    """As after a failover: the messages behind the stored cursor come again, and only they."""
    got: list[int] = []
    go_on = asyncio.Event()

    @source
    async def slow(ctx: SourceContext[int]) -> AsyncIterator[Item]:
        for n in range(ctx.cursor or 0, 6):
            yield Item(n=n)
            ctx.save(n + 1)
            if n == 3:
                await go_on.wait()

    pipeline = Pipeline("p", slow >> collecting(got))
    keys, options = Keys(lab.namespace, "p"), RunOptions()
    await Run(pipeline.plan, lab.broker(pipeline)).begin(options)
    runner = await _source_runner(pipeline, lab, "worker")
    running = asyncio.create_task(runner.run({}, {}, options.signature()))

    async def stands_at_four() -> bool:
        return bool(await lab.command(b"HGET", keys.cursors, "slow") == b"4")

    await eventually(stands_at_four)
    (*_, (last, _)) = await lab.command(b"XRANGE", keys.edge("slow>sink"), b"-", b"+")
    await lab.command(b"XDEL", keys.edge("slow>sink"), last)
    await lab.command(b"HINCRBY", keys.stats, "in:slow>sink", -1)
    await lab.command(b"HSET", keys.cursors, "slow", b"3")
    go_on.set()
    await running
    await Workers(lab.broker(pipeline)).forget(["worker"])
    await lab.run(pipeline)

    assert sorted(got) == list(range(6))


async def _source_runner(pipeline: Pipeline, lab: Lab, worker: str) -> SourceRunner:
    (stage,) = pipeline.plan.sources
    broker = lab.broker(pipeline)
    await Workers(broker).register(worker, {}, lease_ms=60_000, heartbeat="1")
    ids = iter(range(1_000_000))
    return SourceRunner(
        stage, pipeline.plan, broker, lambda: f"{worker}-{next(ids)}".encode(), Writing(pipeline.plan, broker),
        pauses=PauseWatch(broker, []), worker=worker, grace_seconds=30,
    )  # fmt: skip


async def test_a_cursor_of_another_type_is_refused_where_it_is_saved(lab: Lab) -> None:
    @source
    async def dated(ctx: SourceContext[int]) -> AsyncIterator[Item]:
        yield Item(n=1)
        ctx.save(1)
        yield Item(n=2)
        ctx.save("yesterday")  # type: ignore[arg-type]

    got: list[int] = []

    @stage
    async def take(item: Item) -> None:
        got.append(item.n)

    with pytest.raises(SourceFailed, match="int"):
        await lab.run(Pipeline("p", dated >> take))

    assert got == [1]
    assert await lab.command(b"HVALS", Keys(lab.namespace, "p").cursors) == [b"1"]


async def test_a_cursor_of_an_earlier_version_that_does_not_fit_is_named(lab: Lab) -> None:
    pipeline = Pipeline("p", counting >> collecting([]))
    await lab.command(b"HSET", Keys(lab.namespace, "p").cursors, "counting", b'"yesterday"')

    with pytest.raises(UsageError, match="cannot resume") as raised:
        await lab.run(pipeline)

    assert "--fresh" in raised.value.hint


# What cannot be a message


async def test_a_bad_row_is_a_dead_letter_of_the_stage_that_takes_it_and_retried(any_lab: Lab, tmp_path: Path) -> None:
    lab, got, file = any_lab, list[int](), tmp_path / "rows.ndjson"
    file.write_bytes(b'{"n":1}\n{"n":"two"}\n{"n":3}\n')
    sink = collecting(got)
    pipeline = Pipeline("p", ndjson(Item, file) >> sink)

    summary = await lab.run(pipeline)

    letter = await lab.letter(pipeline, sink)
    assert sorted(got) == [1, 3]
    assert (summary.stages["sink"].entered, summary.stages["sink"].dead, summary.stages["rows"].out) == (3, 1, 3)
    assert (letter.body, letter.edge, letter.reason) == (b'{"n":"two"}', "rows>sink", "undecodable")
    assert letter.error.startswith("DecodeError: not a valid Item: n:")
    assert f'{file}, line 2, column n: {{"n":"two"}}' in letter.traceback


async def test_a_value_too_large_for_its_stage_is_a_dead_letter_and_the_source_continues(lab: Lab) -> None:
    got: list[int] = []

    @source
    def texts() -> Iterator[str]:
        yield from ("x", "y" * 1000, "zz")

    @stage(max_bytes=100)
    async def sink(text: str) -> None:
        got.append(len(text))

    pipeline = Pipeline("p", texts >> sink)
    await lab.run(pipeline)

    letter = await lab.letter(pipeline, sink)
    assert sorted(got) == [1, 2]
    assert letter.body == b'"' + b"y" * 1000 + b'"'
    assert letter.error.startswith("PayloadTooLarge: a message of 1,002 bytes for sink")
