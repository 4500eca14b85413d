"""What the options of `flowq run` promise: where it runs, when it ends, and what its exit code then says."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

COUNT = """
    import os, time
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Pipeline, Reject, source, stage

    PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "0"))
    TOGETHER = int(os.environ.get("TOGETHER", "0"))  # the number of processes that wait for each other


    @source
    def numbers(n: int, bad: int = 0) -> Iterator[int]:
        yield from range(-bad, n)


    @stage(concurrency=1)
    def work(number: int) -> str:
        Path(f"{os.getpid()}.works").touch()
        while len(list(Path().glob("*.works"))) < TOGETHER:
            time.sleep(0.01)
        time.sleep(PAUSE_SECONDS)
        if number < 0:
            raise Reject("negative")
        print("working on", number)
        return f"{number} {os.getpid()}"


    @stage(concurrency=1)
    def show(line: str) -> None:
        with Path("shown").open("a") as file:
            print(line, file=file)


    count = Pipeline("count", numbers >> work >> show)
"""


HERE = ("--workers", "0")


class Counting:
    """A pipeline that counts, and what it has shown so far."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def run(self, *options: str, n: int = 20, bad: int = 0, pause_seconds: float = 0, **variables: str) -> FlowqProcess:
        arguments = ("-a", f"n={n}", "-a", f"bad={bad}", "--json")
        return self.project.run("run", "count", *arguments, *options, PAUSE_SECONDS=str(pause_seconds), **variables)

    @property
    def shown(self) -> list[tuple[int, int]]:
        """Number and process, in order."""
        file = self.project.folder / "shown"
        lines = file.read_text().splitlines() if file.exists() else []
        return sorted((int(number), int(pid)) for number, pid in map(str.split, lines))

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.shown]


pytestmark = pytest.mark.project({"count": COUNT})


@pytest.fixture
def counting(project: Project) -> Counting:
    return Counting(project)


def test_json_gives_lines_of_json_whatever_handlers_print(counting: Counting) -> None:
    for workers in ("0", "1"):
        run = counting.run("--workers", workers)

        assert all(isinstance(json.loads(line), dict) for line in run.stdout.splitlines())
        assert "working on 19" in run.stderr


class TestWhere:
    def test_memory_needs_no_server_and_leaves_nothing_behind(self, counting: Counting) -> None:
        run = counting.run("--memory")

        assert run.wait() == 0, run.stderr
        assert counting.shown == [(number, run.pid) for number in range(20)]
        assert not (counting.project.folder / ".flowq").exists()

    def test_memory_as_the_redis_runs_everything_in_this_process_too(self, counting: Counting) -> None:
        run = counting.run("--redis", "memory", "--workers", "2")

        assert run.wait() == 0, run.stderr
        assert counting.shown == [(number, run.pid) for number in range(20)]

    def test_dead_letters_of_an_in_memory_run_are_printed_at_once(self, counting: Counting) -> None:
        run = counting.run("--memory", bad=3)

        assert run.wait() == 3
        assert "dead  3×  work  Reject: negative" in run.stderr

    def test_without_workers_all_runs_in_the_process_itself(self, counting: Counting) -> None:
        run = counting.run("--workers", "0")

        assert run.wait() == 0
        assert counting.shown == [(number, run.pid) for number in range(20)]

    def test_workers_share_the_work_and_the_source_runs_once(self, counting: Counting) -> None:
        run = counting.run("--workers", "3", n=150, TOGETHER="3")

        assert run.wait() == 0
        assert counting.numbers == list(range(150))
        shares = Counter(pid for _, pid in counting.shown)
        assert len(shares) == 3
        assert run.pid not in shares


class TestTuned:
    """Workers are told what is set, wherever that is."""

    def test_a_flag_wins_over_a_variable_and_that_over_the_file(self, counting: Counting) -> None:
        table = "[tool.flowq.pipelines.count.stages.work]\nretry = { attempts = 7, base = 0 }\n"
        (counting.project.folder / "pyproject.toml").write_text(table)
        counting.project.variables |= {"FLOWQ_COUNT__WORK__RETRY__ATTEMPTS": "6"}

        run = counting.run("--set", "work.retry.attempts=4", "--set", "work.timeout=20ms", n=1, pause_seconds=0.3)

        assert run.wait() == 3, run.stderr
        letter = json.loads(counting.project.run("dlq", "show", "count", "1", "--json").stdout)
        assert (letter["stage"], letter["attempts"]) == ("work", 4)
        assert run.summary["stages"]["work"]["retries"] == 3

    def test_a_stage_that_is_not_there_ends_the_command_before_anything_starts(self, counting: Counting) -> None:
        for flags in (("--set", "wrok.timeout=1s"), ("-c", "wrok=3")):
            run = counting.run(*flags)

            assert run.wait() == 2
            assert 'did you mean "work"?' in run.stderr
            assert not (counting.project.folder / ".flowq").exists()


class TestWhen:
    def test_a_limit_ends_the_run_and_the_next_run_resumes(self, counting: Counting) -> None:
        run = counting.run("--limit", "work=5", n=200, pause_seconds=0.05)

        settled = run.summary["stages"]["work"]["ok"]
        assert run.wait() == 0
        assert 5 <= settled < 200
        assert not run.summary["drained"]
        again = counting.run(*HERE, n=200)
        assert again.summary["run"] == run.summary["run"]
        assert counting.numbers == list(range(200))

    def test_a_limit_counts_what_this_command_has_settled(self, counting: Counting) -> None:
        first = counting.run("--limit", "work=5", pause_seconds=0.02)
        second = counting.run("--limit", "work=5", *HERE, pause_seconds=0.02)

        settled_before = first.summary["stages"]["work"]["ok"]
        assert second.summary["stages"]["work"]["ok"] >= min(20, settled_before + 5)

    def test_a_time_limit_is_exit_code_5_and_the_next_run_resumes(self, counting: Counting) -> None:
        run = counting.run("--for", "700ms", pause_seconds=0.2)

        assert run.wait() == 5
        assert not run.summary["drained"]
        assert run.summary["seconds"] >= 0.7
        again = counting.run(*HERE)
        assert again.wait() == 0
        assert again.summary["run"] == run.summary["run"]
        assert counting.numbers == list(range(20))

    def test_time_that_suffices_changes_nothing(self, counting: Counting) -> None:
        assert counting.run("--for", "1m", *HERE).wait() == 0

    def test_an_unfinished_source_that_does_not_run_here_is_said_to_be_waited_for(self, counting: Counting) -> None:
        assert counting.run("--limit", "work=1", n=10**6, pause_seconds=0.02).wait() == 0

        run = counting.run("--drain", "--exclude", "numbers", "--for", "300ms")

        assert run.wait() == 5
        assert "numbers has not finished and does not run here: this run waits for it" in run.stderr


class TestDeadLetters:
    @pytest.mark.parametrize(("allowed", "exit_code"), [("0", 3), ("2", 3), ("3", 0)])
    def test_more_than_allowed_are_exit_code_3(self, counting: Counting, allowed: str, exit_code: int) -> None:
        run = counting.run("--max-dead", allowed, bad=3)

        assert run.wait() == exit_code
        assert run.summary["stages"]["work"]["dead"] == 3

    def test_those_of_earlier_runs_are_not_held_against_this_one(self, counting: Counting) -> None:
        counting.run(*HERE, bad=3)

        again = counting.run(*HERE)

        assert again.wait() == 0


class TestFresh:
    def test_forgets_what_was_left_and_what_had_died(self, counting: Counting) -> None:
        first = counting.run("--limit", "work=5", bad=3, pause_seconds=0.02)

        fresh = counting.run("--fresh", n=3)

        assert fresh.wait() == 0
        assert fresh.summary["run"] != first.summary["run"]
        assert fresh.summary["stages"]["work"]["in"] == fresh.summary["stages"]["work"]["ok"] == 3
        assert json.loads(counting.project.run("dlq", "ls", "count", "--json").stdout) == []
