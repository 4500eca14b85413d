"""Handlers in separate processes behave like any other, and a crash of one affects no other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from flowq import Pipeline, stage
from flowq.errors import PipelineError, UsageError
from tests.conftest import Servers
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab
from tests.runtime.process_stages import PIPELINE, Work, collected, heavy


@pytest.fixture(autouse=True)
def _nothing_collected() -> None:
    collected.clear()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").touch()
    return tmp_path / "notes"


def begun(notes: Path) -> Counter[str]:
    """How often the handler of each message was begun."""
    return Counter(line.rpartition(" ")[0] for line in notes.read_text().splitlines())


def pids(notes: Path) -> set[int]:
    return {int(line.rpartition(" ")[2]) for line in notes.read_text().splitlines()}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_what_is_set_outside_the_code_holds_in_the_other_processes_too(lab: Lab) -> None:
    tuned = PIPELINE.tuned({"collect": {"max_bytes": 5}})

    summary = await lab.run(tuned, Work(what="succeed", n=1))

    assert (summary.stages["heavy"].dead, collected) == (1, [])


async def test_handlers_run_in_other_processes_and_their_outputs_arrive_typed(lab: Lab) -> None:
    summary = await lab.run(PIPELINE, *[Work(what="succeed", n=n) for n in range(50)])

    assert sorted(done.n for done in collected) == list(range(50))
    assert os.getpid() not in {done.pid for done in collected}
    assert {done.thread for done in collected} == {threading.main_thread().name}
    assert (summary.stages["heavy"].ok, summary.stages["heavy"].out) == (50, 50)


async def test_whatever_a_handler_raises_costs_only_its_own_message(lab: Lab, notes: Path) -> None:
    fates = ["fail", "reject", "later", "exit", "stop iteration", "cannot travel"]
    messages = [Work(what=what, notes=str(notes)) for what in fates]

    summary = await lab.run(PIPELINE, *messages, *[Work(what="succeed", n=n) for n in range(40)])

    assert sorted(done.n for done in collected) == list(range(40))
    letters = {letter.message["what"]: letter for letter in await lab.letters(PIPELINE, heavy)}
    assert sorted(letters) == sorted(fates)
    assert summary.dead == len(fates)
    assert (letters["fail"].reason, letters["fail"].error) == ("attempts exhausted", "ValueError: no luck")
    assert (letters["reject"].reason, letters["reject"].error) == ("rejected", "Reject: not wanted")
    assert letters["later"].error == "RetryLater: busy"
    assert letters["exit"].error_type == "SystemExit"
    assert letters["cannot travel"].error == "WithoutCopy: cannot be copied"
    assert (begun(notes)["fail 0"], begun(notes)["reject 0"], begun(notes)["later 0"]) == (2, 1, 2)


async def test_what_an_error_means_it_means_across_processes(lab: Lab, notes: Path) -> None:
    fates = ["gone", "local", "unimportant", "group", "asyncio"]

    summary = await lab.run(PIPELINE, *[Work(what=what, notes=str(notes)) for what in fates])

    assert summary.stages["heavy"].ok == 1
    assert begun(notes) == {f"{what} 0": 1 for what in fates}
    letters = {letter.message["what"]: letter for letter in await lab.letters(PIPELINE, heavy)}
    assert {what: (letter.reason, letter.error) for what, letter in letters.items()} == {
        "gone": ("rejected", "Gone: https://example.org is gone"),
        "local": ("rejected", "Reject: Local: local"),
        "unimportant": ("not retryable", "Unimportant: 'unimportant'"),
        "group": ("rejected", "Gone: https://example.org is gone"),
    }


GUARDED = """
import asyncio, multiprocessing, sys
from collections.abc import Iterator
import flowq
from flowq import Pipeline, source, stage
{imports}
@source
def numbers() -> Iterator[int]:
    yield 20

@stage(process=True)
def double(n: int) -> int:
    return 2 * n

@stage(inline=True)
def show(n: int) -> None:
    print(n)

{at_the_top}
if __name__ == "__main__":
    crunch = Pipeline("crunch", numbers >> double >> show)
    try:
        asyncio.run(flowq.run(crunch, redis="memory"))
    except flowq.errors.FlowqError as error:
        print(error.code)
        assert "top level" in error.hint, error.hint
"""


@pytest.mark.parametrize(
    ("how", "at_the_top", "expected"),
    [
        ("file", "", "FQ200\n"),
        ("file", 'same = Pipeline("crunch", numbers >> double >> show)', "40\n"),
        ("stdin", "", "FQ200\n"),
        ("stdin", 'same = Pipeline("crunch", numbers >> double >> show)', "FQ200\n"),
    ],
)
def test_a_pipeline_of_the_main_program_runs_or_is_refused_at_once(
    how: str, at_the_top: str, expected: str, tmp_path: Path
) -> None:
    program = GUARDED.format(imports="", at_the_top=at_the_top)
    (tmp_path / "main.py").write_text(program)

    done = subprocess.run(
        [sys.executable, "main.py" if how == "file" else "-"],
        input=program if how == "stdin" else "",
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, expected), done.stderr


async def test_a_dead_letter_says_where_in_the_other_process_it_happened(lab: Lab) -> None:
    await lab.run(PIPELINE, Work(what="fail"))

    letter = await lab.letter(PIPELINE, heavy)
    assert 'raise ValueError("no luck")' in letter.traceback
    assert "process_stages.py" in letter.traceback


async def test_the_death_of_a_process_costs_no_neighbour_an_attempt(lab: Lab, notes: Path) -> None:
    naps = [Work(what="nap", n=n, notes=str(notes)) for n in range(6)]
    await lab.run(PIPELINE, *naps[:2], Work(what="die", notes=str(notes)), *naps[2:])

    letter = await lab.letter(PIPELINE, heavy)
    assert (letter.message["what"], letter.error_type, letter.attempts) == ("die", "HandlerProcessDied", 2)
    assert begun(notes) == {"die 0": 2} | {f"nap {n}": 1 for n in range(6)}


async def test_a_handler_that_takes_too_long_is_stopped_together_with_its_process(lab: Lab, notes: Path) -> None:
    hurried = PIPELINE.tuned({"heavy": {"timeout": 0.5}})
    summary = await lab.run(hurried, *[Work(what=what, notes=str(notes)) for what in ("spin", "wait")])

    assert summary.dead == 2
    errors = {letter.error for letter in await lab.letters(PIPELINE, heavy)}
    assert errors == {"HandlerTimeout: ran longer than 0.5 s"}
    assert begun(notes) == {"spin 0": 2, "wait 0": 2}
    await eventually(lambda: not any(map(is_running, pids(notes))))


async def test_bytes_that_are_no_message_and_outputs_that_do_not_fit_die_as_elsewhere(lab: Lab) -> None:
    await lab.command(b"XADD", lab.broker(PIPELINE).keys.edge(">heavy"), b"*", b"b", b"no json")

    await lab.run(PIPELINE)

    assert (await lab.letter(PIPELINE, heavy)).reason == "undecodable"


async def test_a_stop_hands_back_what_runs_and_leaves_no_process_behind(lab: Lab, notes: Path) -> None:
    await lab.push(PIPELINE, heavy, Work(what="wait", notes=str(notes)))
    async with lab.running(PIPELINE, grace_seconds=0):
        await eventually(lambda: notes.read_text())

    balance = (await lab.balance(PIPELINE))["heavy"]
    assert (balance.running, balance.outstanding) == (0, 1)
    await eventually(lambda: not any(map(is_running, pids(notes))))


async def test_a_pipeline_that_no_child_can_import_is_refused_at_the_start(lab: Lab) -> None:
    hidden = Pipeline("hidden", heavy)

    with pytest.raises(UsageError, match="top level of a file"):
        async with lab.running(hidden):
            pass


def test_a_program_run_as_a_package_may_import_its_pipeline(tmp_path: Path, redis_server: Servers) -> None:
    package = tmp_path / "crunch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "flow.py").write_text(
        dedent("""
        from collections.abc import Iterator
        from flowq import Pipeline, source, stage

        @source
        def numbers() -> Iterator[int]:
            yield 20

        @stage(process=True)
        def double(n: int) -> int:
            return 2 * n

        @stage(inline=True)
        def show(n: int) -> None:
            print(n)

        crunch = Pipeline("crunch", numbers >> double >> show)
        """)
    )
    (package / "__main__.py").write_text(
        dedent(f"""
        import asyncio, flowq
        from crunch.flow import crunch

        if __name__ == "__main__":
            asyncio.run(flowq.run(crunch, redis={redis_server("debian").url!r}, namespace={tmp_path.name!r}))
        """)
    )

    done = subprocess.run(
        [sys.executable, "-m", "crunch"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout) == (0, "40\n"), done.stderr


@pytest.mark.parametrize("options", [{"batch": 10}, {"ack": "first"}], ids=repr)
def test_batches_and_early_acknowledgement_do_not_go_to_other_processes(options: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match="process=True"):
        Pipeline("p", stage(process=True, **options)(in_batches if "batch" in options else alone))


def test_a_batch_is_settled_after_its_handler_only() -> None:
    for ack in ("first", "manual"):
        with pytest.raises(PipelineError, match="batch"):
            Pipeline("p", stage(batch=10, ack=ack)(in_batches))  # type: ignore[arg-type]


def in_batches(batch: list[Item]) -> Iterator[Item]:
    yield from batch


def alone(item: Item) -> Item:
    return item
