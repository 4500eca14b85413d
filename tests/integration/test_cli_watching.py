"""`flowq status`, `flowq top` and `flowq graph --live` while a pipeline runs: in a real terminal, and without one."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.integration.flowq_process import FLOWQ, FlowqProcess
from tests.integration.project import Project
from tests.integration.terminal import Terminal

PIPELINE = """
    import asyncio
    from collections.abc import Iterator

    from flowq import Pipeline, Reject, source, stage


    @source
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)


    @stage(concurrency=4)
    async def work(number: int) -> str:
        if number == 3:
            raise Reject("three is \\x1b[31mnot\\x1b[0m wanted")
        await asyncio.sleep(30 if number == 5 else 0.02)
        return str(number)


    @stage(concurrency=2)
    async def show(line: str) -> None: ...


    count = Pipeline("count", numbers >> work >> show)
"""
KEYS = " q quit   p pause   s sort: pipeline   d dead letters"
COLORS = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|4[0-7]|38;|48;)")


pytestmark = pytest.mark.project({"count": PIPELINE})


@pytest.fixture
def running(project: Project) -> FlowqProcess:
    """A pipeline that is busy for longer than any test: one message takes half a minute, one is dead."""
    process = project.start("run", "count", "-a", "n=5000", "--grace", "0s", "--json")
    process.wait_for(lambda: is_busy(process))
    return process


def is_busy(process: FlowqProcess) -> bool:
    """Whether one message is dead, and thousands wait, as its last line says."""
    line = process.stdout.rpartition("\n")[0].rpartition("\n")[2]
    work = json.loads(line)["stages"]["work"] if line else {"dead": 0}
    return work["dead"] == 1 and work["waiting"] > 2000


def terminal(project: Project, *arguments: str, columns: int = 80, lines: int = 24, **variables: str) -> Terminal:
    return Terminal((*FLOWQ, *arguments), project.folder, project.environ | variables, columns=columns, lines=lines)


def row(text: str, stage: str) -> list[str]:
    """The cells of a stage's row."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [stage])


def oks(text: str) -> int:
    """What `work` has done, or -1 on a screen that is not yet painted to the end."""
    rows = {line.split()[0]: line for line in reversed(text.splitlines()) if line.split()}  # the first of each
    ends = rows.get("stage", "").find(" ok ") + len(" ok")
    number = rows.get("work", "")[:ends].rpartition(" ")[2].replace(",", "")
    return int(number) if number.isdecimal() else -1


# status


@pytest.mark.usefixtures("running")
def test_status_tells_speeds_ages_workers_and_memory_of_a_running_pipeline(project: Project) -> None:
    status = json.loads(project.run("status", "count", "--json").stdout)

    work = status["stages"]["work"]
    assert status["state"] == "working"
    assert status["bottleneck"] == "work"
    assert (work["workers"], work["idle_workers"]) == (1, 0)
    assert work["oldest_seconds"] > 0
    assert work["memory_bytes"] > 10_000
    assert status["edges"]["numbers>work"]["memory_bytes"] > 10_000
    assert work["rate"] is None or 0 < work["rate"] < 250
    assert work["cause"] == {"kind": "busy", "by": None, "keys": [], "seconds": None}
    assert status["stages"]["show"]["cause"]["kind"] in ("keeps_up", "idle")
    assert status["edges"][">work"]["forecast"] == {"kind": "empty", "seconds": None}


@pytest.mark.usefixtures("running")
def test_status_marks_the_bottleneck_and_fits_80_columns(project: Project) -> None:
    text = project.run("status", "count", COLUMNS="80").stdout

    assert "work ◀" in text
    assert "work is the bottleneck" in text
    assert "▲ busy" in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("command", [("status", "count", "--watch"), ("top", "count")])
def test_watching_repaints_until_ctrl_c(project: Project, command: tuple[str, ...]) -> None:
    with terminal(project, *command) as screen:
        assert screen.wait_for(lambda text: text.endswith(KEYS))
        before = oks(screen.wait_for(lambda text: oks(text) >= 0))
        screen.wait_for(lambda text: oks(text) > before)
        screen.press("\x03")

        assert screen.wait() == 130
        assert "Traceback" not in screen.text


@pytest.mark.usefixtures("running")
def test_watching_without_a_terminal_writes_lines_or_json(project: Project) -> None:
    watching = project.start("top", "count")
    watching.wait_for(lambda: "count  0s working" in watching.stdout)
    as_json = project.start("status", "count", "--watch", "--json")
    as_json.wait_for(lambda: as_json.stdout.count("\n") >= 2)

    first, second = (json.loads(line)["stages"]["work"]["ok"] for line in as_json.stdout.splitlines()[:2])
    assert second > first
    assert "\x1b" not in watching.stdout
    for process in (watching, as_json):
        process.popen.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_lines_about_a_pipeline_without_workers_say_what_its_status_says(project: Project) -> None:
    watching = project.start("top", "count")
    watching.wait_for(lambda: "count  0s never run" in watching.stdout)
    watching.popen.send_signal(signal.SIGINT)
    assert watching.wait() == 130


# top


@pytest.mark.usefixtures("running")
def test_top_shows_the_stages_their_trend_the_workers_and_what_runs_longest(project: Project) -> None:
    with terminal(project, "top", "count", columns=120) as screen:
        text = screen.wait_for(lambda text: re.search(r"work +\d.*s +\S+:\d+", text) and text.endswith(KEYS))

        assert text.startswith("count  working, ")
        assert re.search(r"^ work ◀? +▲ busy.* +[\d,]+ +1 +[\d,]+ .*[▁▂▃▄▅▆▇█]", text, re.MULTILINE), text
        assert re.search(r"^ \S+:\d+:\S+ +\d+( \+\d+)? +6 .* +work, show$", text, re.MULTILINE), text


@pytest.mark.usefixtures("running")
def test_the_keys_of_top_sort_show_dead_letters_and_quit(project: Project) -> None:
    with terminal(project, "top", "count", columns=200, lines=50) as screen:
        screen.wait_for(lambda text: "sort: pipeline" in text)
        screen.press("s")
        text = screen.wait_for(lambda text: "sort: waiting" in text)
        order = [line.split()[0] for line in text.splitlines() if line.split()[:1] in (["numbers"], ["work"], ["show"])]
        screen.press("d")
        screen.wait_for(lambda text: r"three is \x1b[31mnot\x1b[0m wanted" in text)
        screen.press("d")
        screen.wait_for(lambda text: "three is" not in text)
        screen.press("x\x1b[A")  # nothing of ours
        screen.press("q")

        assert order[0] == "work"
        assert screen.wait() == 0
        assert screen.raw.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor is back, and what stood there before
        assert screen.echoes


@pytest.mark.usefixtures("running")
def test_a_key_pauses_the_pipeline_and_resumes_it(project: Project) -> None:
    with terminal(project, "top", "count") as screen:
        screen.wait_for(lambda text: "p pause" in text)
        screen.press("p")
        screen.wait_for(lambda text: text.startswith("count  paused") and "p resume" in text)
        assert json.loads(project.run("status", "count", "--json").stdout)["state"] == "paused"
        screen.press("p")
        screen.wait_for(lambda text: text.startswith("count  working") and "p pause" in text)


def test_top_where_redis_cannot_be_reached_is_one_clear_error(project: Project) -> None:
    with terminal(project, "top", "count", "--redis", "redis://:sesame@127.0.0.1:1") as screen:
        assert screen.wait() == 4
        assert "FQ401" in screen.text
        assert "sesame" not in screen.text


@pytest.mark.usefixtures("running")
def test_top_shows_all_pipelines_and_then_one_after_the_other(project: Project) -> None:
    project.write("other", PIPELINE.replace("count", "other"))

    with terminal(project, "top") as screen:
        screen.wait_for(lambda text: text.startswith("count  working") and "\nother  never run" in text)
        screen.press("\t")
        screen.wait_for(lambda text: text.startswith("count  working") and "other" not in text)
        screen.press("\t")
        screen.wait_for(lambda text: text.startswith("other  never run"))
        screen.press("\x03")
        assert screen.wait() == 130


@pytest.mark.usefixtures("running")
def test_top_without_colour_has_none(project: Project) -> None:
    with terminal(project, "top", "count", NO_COLOR="1") as plain, terminal(project, "top", "count") as coloured:
        for screen in (plain, coloured):
            screen.wait_for(lambda text: KEYS in text)

        assert not COLORS.search(plain.raw)
        assert COLORS.search(coloured.raw)


def test_top_of_a_pipeline_that_does_not_exist_is_one_clear_line(project: Project) -> None:
    top = project.run("top", "cuont")

    assert top.wait() == 2
    assert 'did you mean "count"?' in top.stderr


# graph


@pytest.mark.usefixtures("running")
def test_a_live_graph_has_the_numbers_beside_each_stage(project: Project) -> None:
    with terminal(project, "graph", "count", "--live") as screen:
        text = screen.wait_for(lambda text: "■ show" in text)
        waiting, _, dead = row(text.replace("● ", ""), "work")[-3:]
        assert (int(waiting.replace(",", "")) > 1000, dead) == (True, "1")
        assert re.search(r"● work +▲ busy", text)
        assert all(len(line) <= 80 for line in screen.lines)
        screen.press("\x03")
        assert screen.wait() == 130


def test_a_live_graph_without_a_terminal_is_drawn_once(project: Project) -> None:
    graph = project.ok("graph", "count", "--live")
    assert graph.stdout.splitlines()[1].split() == ["forecast", "waiting", "delayed", "running", "rate", "dead"]
    assert [line.split()[1] for line in graph.stdout.splitlines() if line[1:2] in "◉●■"] == ["numbers", "work", "show"]


def test_only_the_tree_is_drawn_live(project: Project) -> None:
    graph = project.run("graph", "count", "--live", "-f", "dot")

    assert graph.wait() == 2
    assert "--live draws the tree" in graph.stderr
