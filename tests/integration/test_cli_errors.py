"""Errors of the command line are one screen on stderr, with the place, a remedy and an exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer

from flowq.cli.app import COMMANDS, command_named
from tests.integration.project import SCRAPE, Project, clean_environ

SECRET = "s3cr3t"


pytestmark = pytest.mark.project({"scrape": SCRAPE})


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that this process has reserved, and on which nothing listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


# Names


def test_an_unknown_pipeline_is_reported_with_the_nearest_name(project: Project) -> None:
    run = project.flowq("graph", "scarpe")

    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == 'error[FQ201]: no pipeline "scarpe" in ./pipelines    did you mean "scrape"?  (flowq ls)\n'


@pytest.mark.parametrize("name", ["../scrape", "pipelines/scrape", "/etc/passwd", "scrape.py", "", "-n"])
def test_what_is_no_name_never_reaches_the_file_system(project: Project, name: str) -> None:
    project.write("scrape.py", "raise SystemExit('imported')")

    run = project.flowq("graph", "--", name)

    assert run.returncode == 2
    assert f'error[FQ200]: "{name}" is not the name of a pipeline' in run.stderr


def test_a_mistyped_command_or_option_is_a_usage_error(project: Project) -> None:
    command = project.flowq("grahp", "scrape")
    option = project.flowq("graph", "scrape", "--formt", "dot")

    assert (command.returncode, option.returncode) == (2, 2)
    assert "Did you mean 'graph'?" in command.stderr
    assert "--format" in option.stderr
    assert command.stdout == option.stdout == ""


# Files of the user


def test_a_syntax_error_shows_the_line_and_no_frame_of_ours(project: Project) -> None:
    project.write(
        "pipelines/broken.py", "from flowq import Pipeline\n\n\ndef parse(page: str -> str:\n    return page\n"
    )

    run = project.flowq("check", "broken")

    assert run.returncode == 2
    head, place, line, caret, what = run.stderr.splitlines()
    assert head == "error[FQ203]: pipelines/broken.py cannot be imported"
    assert (place, line) == ("  pipelines/broken.py:4", "    4 │ def parse(page: str -> str:")
    assert caret.strip(" │") == "^"
    assert what.startswith("  SyntaxError: ")


def test_an_exception_at_import_shows_the_frames_of_the_user_alone(project: Project) -> None:
    project.write("helpers.py", "def limit(text):\n    return int(text)\n")
    project.write("deep", "from helpers import limit\n\nLIMIT = limit('ten')\n")

    run = project.flowq("graph", "deep")

    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "error[FQ203]: pipelines/deep.py cannot be imported",
        "  pipelines/deep.py:3 in <module>",
        "    3 │ LIMIT = limit('ten')",
        "  helpers.py:2 in limit",
        "    2 │ return int(text)",
        "  ValueError: invalid literal for int() with base 10: 'ten'",
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("os.environ['SHOP_TOKEN']", "KeyError: 'SHOP_TOKEN'"),  # raised in a frame without a file: <frozen os>
        ("Rate(-1)", "ValueError: "),  # raised in a file of flowq
    ],
)
def test_where_python_or_flowq_raised_it_is_not_shown(line: str, shown: str, project: Project) -> None:
    project.write("deep", f"import os\n\nfrom flowq import Rate\n\n{line}\n")

    _, place, source, error, *_ = project.flowq("check", "deep").stderr.splitlines()

    assert (place, source) == ("  pipelines/deep.py:5 in <module>", f"    5 │ {line}")
    assert error.startswith(f"  {shown}")


def test_debug_shows_the_whole_traceback_wherever_it_stands(project: Project) -> None:
    project.write("deep", "raise RuntimeError('boom')\n")

    first, last = project.flowq("--debug", "graph", "deep"), project.flowq("graph", "deep", "--debug")

    for run in (first, last):
        assert run.returncode == 2
        assert "Traceback (most recent call last)" in run.stderr
        assert "loading.py" in run.stderr


def test_a_missing_module_is_reported_with_the_python_that_lacks_it(project: Project) -> None:
    project.write("needy", "import no_such_module_anywhere\n")

    run = project.flowq("graph", "needy")

    assert run.returncode == 2
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in run.stderr
    assert f"hint: is no_such_module_anywhere installed for {sys.executable}?" in run.stderr


def test_a_file_that_exits_at_import_is_an_error_of_that_file(project: Project) -> None:
    project.write("quits", "raise SystemExit(0)\n")

    run = project.flowq("graph", "quits")

    assert run.returncode == 2
    assert "pipelines/quits.py:1" in run.stderr


def test_an_endless_recursion_fits_on_one_screen(project: Project) -> None:
    project.write("deep", "def f():\n    return f()\n\n\nf()\n")

    run = project.flowq("graph", "deep")

    assert run.returncode == 2
    assert "RecursionError" in run.stderr
    assert len(run.stderr.splitlines()) < 24


def test_every_wiring_error_is_shown_with_both_places(project: Project) -> None:
    wrong = SCRAPE.replace("(store | fetch)", "store").replace('"url", max', '"ulr", max')
    file = project.write("scrape", wrong)
    lines = file.read_text().splitlines()
    parse, store = (lines.index(line) for line in lines if line.startswith(("def parse", "def store")))

    run = project.flowq("check")

    assert run.returncode == 2
    assert run.stdout == "scrape: 2 errors\n"
    assert 'hint: did you mean "url"?' in run.stderr
    assert f"error[FQ103]: parse cannot feed store    pipelines/scrape.py:{parse}\n" in run.stderr
    assert f"pipelines/scrape.py:{store}\n" in run.stderr


def test_a_password_in_the_users_code_is_not_shown(project: Project) -> None:
    project.write("leaky", f"int('redis://user:{SECRET}@host/0')\n")

    run = project.flowq("--debug", "graph", "leaky")

    assert run.returncode == 2
    assert "redis://***@host:6379/0" in run.stderr
    assert SECRET not in run.stderr


def test_what_a_pipeline_prints_at_import_does_not_mix_with_data(project: Project) -> None:
    project.write("scrape", SCRAPE.replace("    class Link", "    print('hello')\n\n\n    class Link", 1))

    run = project.flowq("ls", "--json")

    assert [row["name"] for row in json.loads(run.stdout)] == ["scrape"]
    assert "hello" in run.stderr


def test_an_escape_sequence_in_a_message_cannot_reach_the_terminal(project: Project) -> None:
    project.write("evil", r"raise RuntimeError('\x1b[2J\x1b]0;owned\x07')" + "\n")

    run = project.flowq("graph", "evil")

    assert r"\x1b[2J" in run.stderr
    assert "\x1b" not in run.stderr


# Which module a name leads to


def test_the_pipeline_is_the_one_named_like_the_file(project: Project) -> None:
    project.write("scrape", SCRAPE + '    other = Pipeline("other", seeds >> fetch)\n')

    assert json.loads(project.flowq("graph", "scrape", "-f", "json").stdout)["pipeline"] == "scrape"


def test_a_file_with_several_pipelines_and_none_of_its_name_is_ambiguous(project: Project) -> None:
    project.write("scrape", SCRAPE.replace('"scrape"', '"a"') + '    b = Pipeline("b", seeds >> fetch)\n')

    run = project.flowq("graph", "scrape")

    assert run.returncode == 2
    assert run.stderr.startswith('error[FQ201]: pipelines/scrape.py defines a, b, but no "scrape"')


def test_a_module_without_a_pipeline_is_listed_nowhere_and_named_when_asked_for(project: Project) -> None:
    project.write("models", "X = 1\n")

    assert "models" not in project.flowq("ls").stdout
    assert "models" not in project.flowq("check").stdout
    run = project.flowq("graph", "models")
    assert (run.returncode, run.stderr[:55]) == (2, "error[FQ204]: pipelines/models.py defines no pipeline  ")


def test_a_pipeline_may_be_an_attribute_of_any_module(project: Project) -> None:
    project.write("shop/flows.py", SCRAPE.replace("    scrape =", "    flow =").replace('"scrape"', '"crawl"'))
    project.write("pyproject.toml", '[tool.flowq]\npipelines = ["pipelines", "shop.flows:flow"]\n')

    listed = json.loads(project.flowq("ls", "--json").stdout)

    assert [(row["name"], row["file"]) for row in listed] == [
        ("crawl", "shop/flows.py"),
        ("scrape", "pipelines/scrape.py"),
    ]


def test_a_name_that_python_takes_from_elsewhere_is_refused(project: Project) -> None:
    project.write("json/scrape.py", SCRAPE)
    project.write("pyproject.toml", '[tool.flowq]\npipelines = "json"\n')

    run = project.flowq("graph", "scrape")

    assert run.returncode == 2
    assert "json" in run.stderr
    assert "rename that folder" in run.stderr


def test_a_pipeline_is_imported_under_a_name_that_another_process_finds_too(project: Project) -> None:
    project.write(
        "pipelines/scrape.py", SCRAPE + "    import sys\n    print(sorted(m for m in sys.modules if 'scrape' in m))\n"
    )
    project.write("again", "import pipelines.scrape\nfrom pipelines.scrape import scrape\n")

    run = project.flowq("check", "scrape", "again")

    assert run.returncode == 0
    assert run.stderr == "['pipelines.scrape']\n", "imported once, under its real name"


# Settings and Redis


def test_a_setting_that_does_not_exist_is_reported_with_its_line(project: Project) -> None:
    project.write("pyproject.toml", '[project]\nname = "x"\n\n[tool.flowq]\nworker = 3\n')

    run = project.flowq("ls")

    assert run.returncode == 2
    assert 'there is no setting "worker"    pyproject.toml:5' in run.stderr
    assert 'did you mean "workers"?' in run.stderr


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(project: Project, closed_port: int) -> None:
    project.write("pyproject.toml", '[tool.flowq]\nredis = "redis://file.invalid"\n')
    push = ("push", "scrape", '{"url": "x"}')
    flag, variable = f"redis://127.0.0.1:{closed_port}/1", f"redis://127.0.0.1:{closed_port}/2"

    by_flag = project.flowq(*push, "--redis", flag, FLOWQ_REDIS_URL=variable)
    by_variable = project.flowq(*push, FLOWQ_REDIS_URL=variable)

    assert f"cannot reach Redis at {flag}" in by_flag.stderr
    assert f"cannot reach Redis at {variable}" in by_variable.stderr


def test_an_unreachable_redis_is_exit_code_4_and_shows_no_password(project: Project, closed_port: int) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{closed_port}/0"

    run = project.flowq("push", "scrape", '{"url": "x"}', "--redis", url)

    assert run.returncode == 4
    assert f"error[FQ401]: cannot reach Redis at redis://***@127.0.0.1:{closed_port}/0" in run.stderr
    assert "hint: start one: redis-server" in run.stderr
    assert SECRET not in run.stderr
    assert run.stdout == ""


# Screens, signals and pipes


@pytest.mark.parametrize(("columns", "lines"), [("120", 1), ("60", 2)])
def test_the_screen_is_as_wide_as_the_terminal_says(project: Project, columns: str, lines: int) -> None:
    run = project.flowq("graph", "scarpe", COLUMNS=columns)

    assert len(run.stderr.splitlines()) == lines
    assert all(len(line) <= int(columns) for line in run.stderr.splitlines())


@pytest.mark.parametrize(("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_if_not_declined(project: Project, environ: dict[str, str], is_coloured: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flowq", "graph", "scarpe"]
    environ = clean_environ() | {"TERM": "xterm-256color"} | environ
    with subprocess.Popen(command, cwd=project.folder, env=environ, stderr=theirs, stdout=theirs) as process:
        process.wait(60)
    os.close(theirs)
    screen = os.read(ours, 10_000).decode()
    os.close(ours)

    assert "FQ201" in screen
    assert ("\x1b[1;31m" in screen) == is_coloured


def test_an_interrupt_is_exit_code_130_without_a_traceback(project: Project) -> None:
    project.write("scrape", SCRAPE + "    print('imported', flush=True)\n")
    with project.piped("push", "scrape", "-", "--dry-run") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "imported\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "Traceback" not in stdout + stderr


def test_a_reader_that_has_seen_enough_is_no_error(project: Project) -> None:
    with project.piped("graph", "scrape", "-f", "svg") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()

    assert stderr == ""


# Help


def test_help_imports_neither_redis_nor_networkx_nor_pydantic_nor_code_of_the_user(project: Project) -> None:
    project.write("scrape", "raise SystemExit('imported')")
    environ = {"PYTHONPROFILEIMPORTTIME": "1"}

    run = project.flowq("--help", **environ)

    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert run.returncode == 0
    assert "typer" in imported
    assert imported & {"redis", "networkx", "pydantic", "rich", "flowq.graph", "pipelines"} == set()
    for name, _, short_help in COMMANDS:
        assert f"  {name}" in run.stdout
        assert short_help in run.stdout


def test_no_command_at_all_shows_the_help_and_is_a_usage_error(project: Project) -> None:
    run = project.flowq()

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("Usage: flowq [OPTIONS] COMMAND [ARGS]...")


def test_the_version_is_that_of_the_package(project: Project) -> None:
    assert project.flowq("--version").stdout == f"flowq {import_module('flowq').__version__}\n"


@pytest.mark.parametrize(("name", "short_help"), [(name, short_help) for name, _, short_help in COMMANDS])
def test_every_command_says_what_it_is_for_and_gives_an_example(name: str, short_help: str) -> None:
    command = command_named(name)

    assert (command.help or "").startswith(short_help.rstrip("."))
    for path, page in pages(name, command):
        assert page.startswith(f"Usage: flowq {path} ")
        assert f"\n    flowq {path} " in page or f"\n    flowq {path}\n" in page
        assert not re.search(r"<\w+( range)?>|x<=|x>=", page), "not as click spells types and bounds"


def pages(path: str, command: Any) -> Iterator[tuple[str, str]]:
    """The help of a command, or of each subcommand of a group."""
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    for name, subcommand in subcommands.items():
        yield from pages(f"{path} {name}", subcommand)
    if not subcommands:
        with typer.Context(command, info_name=f"flowq {path}") as ctx:
            yield path, command.get_help(ctx)
