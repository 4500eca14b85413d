"""`flowq.run` in a user's program: a handler that blocks its loop is logged, once for all pipelines of the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

import flowq


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "blocks the event loop" in record.getMessage()]


async def test_a_handler_that_blocks_the_loop_of_a_program_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> list[logging.LogRecord]:
        return logged(caplog)

    @flowq.source
    def one() -> Iterator[int]:
        yield 1

    @flowq.stage
    async def blocking(n: int) -> None:
        while not warnings():
            time.sleep(0.01)  # noqa: ASYNC251
        time.sleep(0.5)  # noqa: ASYNC251  (time enough for a second watch to say the same)

    @flowq.stage
    async def other(n: int) -> None: ...

    first, second = flowq.Pipeline("first", one >> blocking), flowq.Pipeline("second", one >> other)
    await asyncio.gather(flowq.run(first, redis="memory"), flowq.run(second, redis="memory", drain=True))

    (warning,) = warnings()
    assert warning.name == "flowq.runtime"
    assert "blocking at " in warning.getMessage()
    assert f"{__file__.rpartition('/')[2]}:" in warning.getMessage()


async def test_of_two_that_block_it_one_right_after_the_other_both_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 60

    @flowq.source
    def one() -> Iterator[int]:
        yield 1

    async def first() -> None:
        while len(logged(caplog)) < 1 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251

    async def second() -> None:
        while len(logged(caplog)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251

    @flowq.stage
    async def both(n: int) -> None:
        await asyncio.gather(first(), second())  # the loop runs nothing else between the two

    await flowq.run(flowq.Pipeline("both", one >> both), redis="memory")

    lines = [record.getMessage().partition(" blocks")[0].rpartition(":")[2] for record in logged(caplog)]
    assert len(set(lines)) == 2
