"""What a newcomer gets wrong when they run their first pipeline, and the pipeline of the README as it stands there."""

from __future__ import annotations

import re
import shlex
import socket
from pathlib import Path

import pytest

from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

README = Path(__file__).parents[2] / "README.md"
MOST_LINES = 12

SHOUT = """
    import os, sys
    from collections.abc import Iterator

    from flowq import Pipeline, Retry, resource, source, stage, use

    MISTAKE = os.environ.get("MISTAKE")


    @resource
    def disk() -> Iterator[str]:
        if MISTAKE == "resource":
            raise OSError("the disk is full")
        yield "disk"


    @source
    def words(n: int) -> Iterator[str]:
        for i in range(n):
            yield f"word {i}"
            if i == 1 and MISTAKE == "source":
                raise KeyError("no such word")
            if i == 1 and MISTAKE == "source exits":
                sys.exit("enough")


    @stage(retry=Retry(attempts=2, base=0.01))
    def shout(word: str, disk: str = use(disk)) -> str:
        if word == "word 1":
            if MISTAKE == "handler exits":
                sys.exit("enough")
            if MISTAKE == "handler ends the process":
                os._exit(7)
        return word.upper()


    @stage
    def show(word: str) -> None:
        print(word)


    pipeline = Pipeline("shout", words >> shout >> show)
"""
WORDS = ["WORD 0", "WORD 1", "WORD 2"]
WORKERS = pytest.mark.parametrize("workers", ["1", "0"])


pytestmark = pytest.mark.project({"shout": SHOUT})


def screen_of(run: FlowqProcess) -> str:
    """What was said on stderr about the mistake: short, and without a frame of ours."""
    screen = run.stderr[run.stderr.index("error[") :]
    assert len(screen.splitlines()) <= MOST_LINES, screen
    assert "Traceback" not in screen
    assert "/flowq/" not in screen
    assert "loop.pyx" not in screen
    return screen


class TestTheCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["run", "shuot", "-a", "n=3"], ['no pipeline "shuot"', 'did you mean "shout"?']),
            (["run", "../shout", "-a", "n=3"], ['"../shout" is not the name of a pipeline']),
            (["run", "shout"], ['source "words" needs the argument "n"', "-a n=..."]),
            (["run", "shout", "-a", "n=many"], ["-a n=many does not fit", "valid integer"]),
            (["run", "shout", "-a", "m=3"], ['accepts an argument "m"', "they accept: n"]),
            (["run", "shout", "-a", "n"], ["-a n is not KEY=VALUE"]),
            (["run", "shout", "--stage", "shuot"], ['no stage "shuot"', 'did you mean "shout"?']),
            (["run", "shout", "-x", "words,shout,show"], ["no stage is left to run"]),
            (["run", "shout", "-a", "n=3", "-c", "shout"], ["-c shout is not STAGE=N"]),
            (["run", "shout", "-a", "n=3", "-c", "shout=many"], ["-c shout=many", "whole number"]),
            (["run", "shout", "-a", "n=3", "-c", "shout=0"], ["-c shout=0", "above 0"]),
            (["run", "shout", "-a", "n=3", "-c", "shuot=3"], ['no stage "shuot"']),
            (["run", "shout", "-a", "n=3", "--limit", "show=-1"], ["--limit show=-1", "whole number"]),
            (["run", "shout", "-a", "n=3", "--for", "soon"], ["--for", "'soon' is not a duration"]),
            (["run", "shout", "-a", "n=3", "--for", "-1s"], ["--for", "'-1s' is not a duration"]),
            (["run", "shout", "-a", "n=3", "--workers", "-1"], ["--workers", "0 or more"]),
            (["run", "shout", "-a", "n=3", "--max-dead", "-1"], ["--max-dead"]),
            (["run", "shout", "-a", "n=3", "--redis", "localhost"], ["cannot be read", "redis://"]),
        ],
        ids=lambda value: " ".join(value[1:]) if "run" in value else "",
    )
    def test_a_mistake_is_exit_code_2_and_names_the_remedy(
        self, project: Project, arguments: list[str], said: list[str]
    ) -> None:
        run = project.run(*arguments)

        assert run.wait() == 2
        screen = screen_of(run)
        assert [part for part in said if part not in screen] == []
        assert run.stdout == ""
        assert not (project.folder / ".flowq").exists()

    def test_a_redis_that_is_not_running_is_exit_code_4_and_names_the_alternative(self, project: Project) -> None:
        with socket.socket() as reserved:  # reserved, so that no other process listens there
            reserved.bind(("127.0.0.1", 0))
            run = project.run("run", "shout", "-a", "n=3", "--redis", f"redis://127.0.0.1:{reserved.getsockname()[1]}")

        assert run.wait() == 4
        screen = screen_of(run)
        assert "cannot reach Redis at redis://127.0.0.1:" in screen
        assert 'use "embedded" as the URL' in screen


class TestTheFile:
    def test_a_syntax_error_is_shown_with_its_line(self, project: Project) -> None:
        project.write("shout", "def shout(:\n    pass\n")

        run = project.run("run", "shout")

        assert run.wait() == 2
        assert "pipelines/shout.py:1" in (screen := screen_of(run))
        assert "SyntaxError" in screen

    def test_types_that_do_not_fit_are_shown_with_both_places(self, project: Project) -> None:
        project.write("shout", SHOUT.replace("show(word: str)", "show(word: int)"))

        run = project.run("run", "shout", "-a", "n=3")

        assert run.wait() == 2
        screen = screen_of(run)
        assert "shout cannot feed show" in screen
        assert len(set(re.findall(r"pipelines/shout\.py:\d+", screen))) == 2


class TestTheCode:
    @WORKERS
    def test_a_resource_that_cannot_be_opened_ends_the_run_and_is_named(self, project: Project, workers: str) -> None:
        run = project.run("run", "shout", "-a", "n=3", "--workers", workers, MISTAKE="resource")

        assert run.wait() == 1
        screen = screen_of(run)
        assert 'resource "disk" could not be opened' in screen
        assert "OSError: the disk is full" in screen
        assert 'raise OSError("the disk is full")' in screen
        _completes(project)

    @WORKERS
    def test_an_exception_in_a_source_ends_the_run_and_shows_its_line(self, project: Project, workers: str) -> None:
        run = project.run("run", "shout", "-a", "n=3", "--workers", workers, MISTAKE="source")

        assert run.wait() == 1
        screen = screen_of(run)
        assert 'source "words" failed' in screen
        assert 'raise KeyError("no such word")' in screen
        _completes(project)

    @WORKERS
    def test_a_source_that_exits_ends_the_run_as_well(self, project: Project, workers: str) -> None:
        run = project.run("run", "shout", "-a", "n=3", "--workers", workers, MISTAKE="source exits")

        assert run.wait() == 1
        assert 'source "words" failed' in screen_of(run)
        _completes(project)

    @WORKERS
    def test_a_handler_that_exits_costs_its_own_message(self, project: Project, workers: str) -> None:
        run = project.run("run", "shout", "-a", "n=3", "--workers", workers, MISTAKE="handler exits")

        assert run.wait() == 3
        assert sorted(run.stdout.split("\n")[:-1]) == ["WORD 0", "WORD 2"]
        assert "SystemExit: enough" in project.run("dlq", "ls", "shout").stdout

    def test_a_handler_that_ends_its_process_costs_its_own_message(self, project: Project) -> None:
        run = project.run("run", "shout", "-a", "n=3", MISTAKE="handler ends the process")

        assert run.wait() == 3
        assert sorted(set(run.stdout.split("\n")[:-1])) == ["WORD 0", "WORD 2"]
        assert "worker 1 ended with exit code 7" in run.stderr
        assert "exit code 7" in project.run("dlq", "show", "shout", "--json").stdout


def _completes(project: Project) -> None:
    """Once the mistake is fixed, the same command does all the work."""
    run = project.ok("run", "shout", "-a", "n=3", "--workers", "0")
    assert sorted(set(run.stdout.split("\n")[:-1])) == WORDS


class TestTheReadme:
    def test_its_pipeline_runs_as_it_stands_there(self, project: Project) -> None:
        command = self._set_up(project, ["hello", "brave new", "wörld"])

        run = project.ok(*command)
        assert sorted(run.stdout.splitlines()) == ["BRAVE NEW", "HELLO", "WÖRLD"]

    def test_an_empty_line_is_a_dead_letter_as_its_comment_says(self, project: Project) -> None:
        command = self._set_up(project, ["hello", "", "world"])

        run = project.run(*command)

        assert run.wait() == 3
        assert sorted(run.stdout.splitlines()) == ["HELLO", "WORLD"]
        assert "Reject: empty" in project.run("dlq", "ls", "shout").stdout

    @staticmethod
    def _set_up(project: Project, words: list[str]) -> list[str]:
        """Write the file of the README; its command, with our words in place of those of the system."""
        text = README.read_text()
        block = re.search(r'```python title="pipelines/(\w+)\.py"\n(.*?)```', text, re.DOTALL)
        command = re.search(r"^\$ flowq (run shout .*)$", text, re.MULTILINE)
        assert block
        assert command
        project.write(block[1], block[2])
        file = project.folder / "words"
        file.write_text("".join(f"{word}\n" for word in words))
        arguments, n = re.subn(r"path=\S+", f"path={file}", command[1])
        assert n == 1
        return shlex.split(arguments)
