"""A hung thread keeps neither its slot nor the program."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from flowq.runtime.handlers.threads import HandlerThreads

LONGEST_SECONDS = 60


@pytest.mark.parametrize("options", ["timeout=0.2, retry=Retry(attempts=1)", ""], ids=["timeout", "stop"])
def test_the_program_ends_after_a_run_that_has_given_a_thread_up(options: str, tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(
        dedent(f"""
        import asyncio, threading
        from collections.abc import Iterator
        import flowq
        from flowq import Pipeline, Retry, source, stage

        begun = threading.Event()

        @source
        def one() -> Iterator[int]:
            yield 1

        @stage({options})
        def block(n: int) -> None:
            begun.set()
            threading.Event().wait()

        async def main() -> None:
            run = asyncio.create_task(flowq.run(Pipeline("blocks", one >> block), redis="memory", grace=0))
            await asyncio.to_thread(begun.wait)
            if {bool(options)}:
                await run
            run.cancel()
            await asyncio.wait([run])

        asyncio.run(main())
        print("the run is over", flush=True)
        """)
    )

    done = subprocess.run(
        [sys.executable, "host.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "the run is over\n"), done.stderr


def test_there_are_no_more_threads_than_slots_and_no_more_than_calls() -> None:
    threads = HandlerThreads(2)
    used = {threads.submit(threading.get_ident).result(LONGEST_SECONDS) for _ in range(100)}
    assert len(used) <= 2

    free = threading.Event()
    waiting = [threads.submit(free.wait) for _ in range(3)]
    threads.give_up_one()
    alive = [thread for thread in threading.enumerate() if thread.name.startswith("flowq-handler")]
    assert all(thread.daemon for thread in alive)

    assert threads.submit(lambda: 5).cancel()
    free.set()
    assert all(call.result(LONGEST_SECONDS) for call in waiting)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(print)


def test_a_slot_whose_thread_was_given_up_gets_another() -> None:
    threads, hangs = HandlerThreads(1), threading.Event()
    hung = threads.submit(hangs.wait)
    threads.give_up_one()

    assert threads.submit(lambda: "runs").result(LONGEST_SECONDS) == "runs"

    hangs.set()
    assert hung.result(LONGEST_SECONDS)
    threads.shutdown()


def test_the_error_of_a_call_reaches_its_caller() -> None:
    threads = HandlerThreads(1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(LONGEST_SECONDS)
    threads.shutdown()
