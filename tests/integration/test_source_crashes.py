"""A source that ends its process: the run says which one it is, and everything else is done."""

from __future__ import annotations

import pytest

from tests.integration.project import Project

ENOUGH_SECONDS = 120.0

CRASHES = """
    import os
    import time
    from collections.abc import Iterator

    from flowq import Pipeline, SourceContext, source, stage


    @source
    def good() -> Iterator[int]:
        yield from range(100, 110)


    @source
    def bad() -> Iterator[int]:
        yield 1
        os._exit(9)  # as a driver does that crashes


    @source
    def moving(ctx: SourceContext[int]) -> Iterator[int]:
        for n in range(ctx.cursor or 0, 6):
            yield n
            ctx.save(n + 1)
            yield n + 1000  # what comes after a cursor waits for the next one
            if n < 5:
                while not open("seen.txt").read().count(f"<{n}>"):
                    time.sleep(0.01)
                os._exit(9)
            ctx.save(n + 1)


    @stage
    def show(number: int) -> None:
        with open("seen.txt", "a") as seen:
            seen.write(f"<{number}>")


    open("seen.txt", "a").close()
"""


pytestmark = pytest.mark.project(
    {
        "stops": CRASHES + '    stops = Pipeline("stops", bad >> show, good >> show)',
        "moves": CRASHES + '    moves = Pipeline("moves", moving >> show)',
    }
)


def seen(project: Project) -> list[int]:
    text = (project.folder / "seen.txt").read_text()
    return sorted({int(number) for number in text.replace(">", "").split("<") if number})


def test_a_source_that_ends_its_process_each_time_is_named_and_other_sources_are_handled(project: Project) -> None:
    run = project.run("run", "stops", seconds=ENOUGH_SECONDS)

    assert run.wait() == 1
    assert 'source "bad" ends its worker' in run.stderr
    assert "ended with exit code 9 4 times in a row" in run.stderr
    assert [n for n in seen(project) if n >= 100] == list(range(100, 110))


def test_a_source_that_gets_further_before_each_crash_is_started_again_until_it_has_finished(project: Project) -> None:
    run = project.run("run", "moves", seconds=ENOUGH_SECONDS)

    assert run.wait() == 0, run.stderr
    assert seen(project) == [*range(6), 1005]


def test_ctrl_c_raised_by_a_source_ends_the_run_in_plain_words(project: Project) -> None:
    """As from a library that turns it into an exception of its own thread. There is no traceback, and no hang."""
    raising = CRASHES.replace("os._exit(9)  # as a driver does that crashes", "raise KeyboardInterrupt")
    project.write("stops", raising + '    stops = Pipeline("stops", bad >> show, good >> show)')

    run = project.run("run", "stops", seconds=ENOUGH_SECONDS)

    assert run.wait() == 1
    assert 'error[FQ302]: source "bad" failed: KeyboardInterrupt()' in run.stderr
    assert "Traceback" not in run.stderr
    assert seen(project) == [1, *range(100, 110)]
