"""Standard output and error that are closed, full, not UTF-8, or have lost their reader."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis

from tests.integration.flowq_process import ASCII, FLOWQ, wait_until
from tests.integration.project import Project

LONGEST_SECONDS = 60
N = 50

# Grüße are at home in the file, in the message, in what is printed and in the error.
WORDS = """
    from collections.abc import Iterator

    from pydantic import BaseModel

    from flowq import Pipeline, Reject, source, stage


    class Wort(BaseModel):
        text: str


    @source
    def seeds() -> Iterator[Wort]:
        yield Wort(text="straße 😀")


    @stage
    def weigh(wort: Wort) -> None:
        print("größer:", wort.text)
        raise Reject(f"nicht schön: {wort.text}")


    words = Pipeline("words", seeds >> weigh)
"""
PRINTING = f"""
    import logging
    import sys
    from collections.abc import Iterator

    from flowq import Pipeline, source, stage


    @source
    def numbers() -> Iterator[int]:
        yield from range({N})


    @stage(PLACEMENT)
    def tell(n: int) -> None:
        print(n, "x" * 1000, flush=True)
        print(n, "y" * 1000, file=sys.stderr, flush=True)
        logging.getLogger("mine").warning("number %d", n)


    talk = Pipeline("talk", numbers >> tell)
"""


pytestmark = pytest.mark.project({"words": WORDS, "pyproject.toml": "# Grüße\n[tool.flowq]\n"}, redis="bundled")


# Not UTF-8


def test_where_the_locale_is_ascii_every_command_spells_out_what_it_cannot_write(project: Project) -> None:
    pushed = project.flowq("push", "words.weigh", '{"text": "grüße 😀"}', **ASCII)
    assert pushed.returncode == 0, pushed.stderr
    (project.folder / "pipelines" / "kaputt.py").write_text('raise ValueError("größer 😀")', encoding="utf-8")
    message_id = pushed.stdout.strip()

    def said(*arguments: str, code: int = 0) -> str:
        ended = project.flowq(*arguments, **ASCII)
        assert ended.returncode == code, (arguments, ended.stderr)
        assert (ended.stdout + ended.stderr).isascii()
        return ended.stdout + ended.stderr

    grüße = {"text": "grüße 😀"}
    spelled = r"gr\u00fc\u00dfe \ud83d\ude00"
    assert spelled in said("peek", "words")
    assert json.loads(said("peek", "words", "--json"))["message"] == grüße
    assert message_id in said("trace", "words", message_id)
    assert r"gr\u00f6\u00dfer: stra\u00dfe" in said("run", "words", "-q", code=3)
    assert r"nicht sch\u00f6n" in said("dlq", "ls", "words")
    assert spelled in said("dlq", "show", "words", "1") + said("dlq", "show", "words", "2")
    letters = [json.loads(line) for line in said("dlq", "export", "words").splitlines()]
    assert grüße in [letter["message"] for letter in letters]
    assert r"gr\u00f6\u00dfer" in said("ls")
    assert "größer" in json.loads(said("ls", "--json").partition("]\n")[0] + "]")[0]["error"]
    assert r"gr\u00f6\u00dfer" in said("check", code=2)
    assert r"gr\u00f6\u00dfer" in said("run", "kaputt", code=2)
    said("status", "words")
    said("config")
    said("graph", "words")
    said("graph", "words", "-f", "mermaid")
    said("init")
    said("push", "words.weigh", '{"ü": 1}', code=2)


def test_json_lines_of_a_log_mean_the_same_where_the_locale_is_ascii(project: Project) -> None:
    project.write("talk", 'import logging\n\nlogging.getLogger("x").warning("schön 😀")\n' + plain(WORDS, "talk"))

    ended = project.flowq("run", "talk", "--memory", "--log-format", "json", **ASCII)

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert "schön 😀" in [line["message"] for line in lines]


def plain(text: str, name: str) -> str:
    return dedent(text).replace("words", name)


# Closed, full, without a reader


def run_with(project: Project, how: str, *arguments: str) -> int:
    """Run a command line whose output leads somewhere odd; its exit code."""
    command = [*FLOWQ, *arguments]
    redirection = {
        "nothing odd": "",
        "stdout closed": ">&-",
        "stdout full": ">/dev/full",
        "stdout only for reading": "1</dev/null",
        "stderr closed": "2>&-",
        "stderr full": "2>/dev/full",
        "both full": ">/dev/full 2>/dev/full",
        "all closed": "<&- >&- 2>&-",
    }[how]
    quoted = " ".join(f"'{word}'" for word in command)
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {quoted} {redirection}"],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=LONGEST_SECONDS,
        check=False,
    ).returncode


def n_handled(project: Project) -> int:
    with redis.Redis.from_url(project.variables["FLOWQ_REDIS_URL"]) as client:  # pyright: ignore[reportUnknownMemberType]
        return int(client.hget(f"{project.variables['FLOWQ_NAMESPACE']}:{{talk}}:stats", "ok:tell") or 0)


@pytest.mark.parametrize(("workers", "placement"), [("0", ""), ("1", ""), ("1", "process=True")])
@pytest.mark.parametrize("how", ["stdout full", "stderr full", "all closed"])
def test_a_run_works_wherever_its_output_leads(how: str, workers: str, placement: str, project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", placement))

    assert run_with(project, how, "run", "talk", "--workers", workers) == 0
    assert n_handled(project) == N


@pytest.mark.parametrize("how", ["stdout closed", "stdout only for reading", "stderr closed", "both full"])
@pytest.mark.parametrize("flags", [("--json",), ("--log-format", "json")])
def test_so_does_one_that_tells_programs_of_it(how: str, flags: tuple[str, ...], project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", ""))

    assert run_with(project, how, "run", "talk", *flags) == 0
    assert n_handled(project) == N


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_costs_no_message(stream: str, project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", "process=True"))
    reading, writing = os.pipe()
    os.close(reading)
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writing}

    run = subprocess.Popen([*FLOWQ, "run", "talk"], cwd=project.folder, env=project.environ, **streams)
    os.close(writing)

    assert run.wait(LONGEST_SECONDS) == 0
    assert n_handled(project) == N


def test_a_pipe_that_was_set_to_non_blocking_loses_nothing(project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", ""))
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, fcntl.fcntl(writing, fcntl.F_GETFL) | os.O_NONBLOCK)

    run = subprocess.Popen(
        [*FLOWQ, "run", "talk", "--memory", "-q"],
        cwd=project.folder,
        env=project.environ,
        stdout=writing,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        lines = stream.read().splitlines()

    assert run.wait(LONGEST_SECONDS) == 0
    assert sorted(int(line.split()[0]) for line in lines) == list(range(N))


def test_output_that_shall_not_be_buffered_is_seen_while_the_handler_still_runs(project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", "").replace(", flush=True)", "); open('go').read()"))
    go = project.folder / "go"
    os.mkfifo(go)

    with subprocess.Popen(
        [*FLOWQ, "run", "talk", "--memory", "-q"],
        cwd=project.folder,
        env={**project.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as run:
        assert run.stdout is not None
        seen = select.select([run.stdout], [], [], LONGEST_SECONDS)[0]
        run.kill()
    assert seen


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_handler_prints_in_a_process_of_its_own_is_seen(unbuffered: str, project: Project) -> None:
    project.write("talk", PRINTING.replace("PLACEMENT", "process=True").replace(", flush=True", ""))

    ended = subprocess.run(
        [*FLOWQ, "run", "talk", "--memory", "-q"],
        cwd=project.folder,
        env={**project.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        check=True,
        timeout=LONGEST_SECONDS,
    )

    assert sorted(int(line.split()[0]) for line in ended.stdout.splitlines()) == list(range(N))


def test_output_that_is_the_result_is_missed_in_plain_words_when_it_cannot_be_written(project: Project) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*FLOWQ, "config"],
            cwd=project.folder,
            env=project.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.decode().splitlines() == [
        "error[FQ212]: standard output cannot be written",
        "  No space left on device",
    ]


@pytest.mark.parametrize("how", ["stdout closed", "stderr closed", "stderr full", "all closed"])
def test_commands_without_a_reader_do_their_work(how: str, project: Project) -> None:
    assert run_with(project, how, "ls") == 0
    assert run_with(project, how, "push", "words.weigh", '{"text": "x"}') == 0
    assert run_with(project, how, "run", "nonsense") == 2
    assert '"text":"x"' in project.flowq("peek", "words").stdout


# Signals before anything has begun


def test_as_the_first_process_of_a_container_sigterm_ends_a_run_in_import(project: Project, tmp_path: Path) -> None:
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--map-root-user"]
    if sys.platform != "linux" or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here")
    importing, may_go_on = tmp_path / "importing", tmp_path / "go-on"
    os.mkfifo(may_go_on)
    project.write(
        "slow", f"open({str(importing)!r}, 'w').close()\nopen({str(may_go_on)!r}).read()\n" + plain(WORDS, "slow")
    )
    run = subprocess.Popen(
        [*namespace, *FLOWQ, "run", "slow", "--memory"],
        cwd=project.folder,
        env=project.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(importing.exists, seconds=LONGEST_SECONDS)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()

    os.kill(int(children[0]), signal.SIGTERM)

    assert run.wait(LONGEST_SECONDS) != 0
