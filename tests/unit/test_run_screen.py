"""The output of a run: on a terminal, in a log, to a program."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.cells import cell_len

from flowq import Pipeline, stage
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import Snapshot
from flowq.cli.views.live_screen import HOW_TO_STOP
from flowq.cli.views.run_progress import ProgressMeter
from flowq.cli.views.run_screen import RunAbout, choose_screen
from flowq.cli.views.run_text import command_to_finish, end_lines
from tests.unit.crawl_run import ABOUT, PLAN, snapshot, summary, words
from tests.unit.overviews import overview_of

WORKERS = {"one": ("fetch", "parse", "store"), "two": ("fetch", "parse", "store")}


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


# Progress


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = ProgressMeter(PLAN)
    for second in range(10):  # 10 a second for five seconds, then 50 a second
        done = 10 * second if second <= 5 else 50 + 50 * (second - 5)
        progress = meter.read(snapshot(second, known=1000, fetched=done))

    assert progress.rates["fetch"] == pytest.approx(50)
    assert progress.passed_seconds == 9


def test_a_replay_is_no_negative_rate() -> None:
    meter = ProgressMeter(PLAN)
    meter.read(snapshot(0, known=10, fetched=10, dead=10))

    progress = meter.read(snapshot(1, known=10, fetched=0, dead=0))

    assert progress.rates["fetch"] == 0


def test_a_clock_that_is_set_back_stops_neither_the_rate_nor_the_picture() -> None:
    meter = ProgressMeter(PLAN)
    meter.read(snapshot(100, known=1000))
    meter.read(snapshot(101, known=1000, fetched=10))
    meter.read(snapshot(41, known=1000, fetched=10))

    progress = meter.read(snapshot(42, known=1000, fetched=20))

    assert progress.rates["fetch"] == pytest.approx(10)
    assert progress.passed_seconds == 2
    shown = words(painted(snapshot(100, known=1000), snapshot(41, known=1000, fetched=123)))
    assert "123" in shown


def test_dead_letters_that_do_not_stay_are_not_pointed_to() -> None:
    end = snapshot(8, known=9, fetched=7, dead=2)

    lines = [line.plain for line in end_lines(PLAN, summary(end), dead_before=0, stopped=True, width=120, stays=False)]

    assert len(lines) == 4
    assert not [line for line in lines if "dlq" in line or "to resume" in line]


def test_what_waits_is_finished_by_its_stages_alone_once_the_sources_have_given_all() -> None:
    @stage
    def count(n: int) -> None: ...

    finished, open_ = snapshot(1), snapshot(1, reading=True)
    assert command_to_finish(PLAN, finished) == "flowq run scrape --drain -x seeds"
    assert command_to_finish(PLAN, open_) == "flowq run scrape"
    assert command_to_finish(Pipeline("count", count).plan, finished) == "flowq run count --drain"


# The live table


def painted(
    *snapshots: Snapshot,
    about: RunAbout = ABOUT,
    notes: tuple[str, ...] = (),
    throughput: Mapping[str, Throughput] | None = None,
) -> str:
    """Everything a terminal is sent by a run that does not end."""
    terminal = Terminal()
    screen = choose_screen(PLAN, json=False, quiet=False, stdout=io.StringIO(), stderr=terminal)
    screen.begin(about)
    try:
        for seen in snapshots:
            overview = None if throughput is None else overview_of(PLAN, seen, throughput=throughput, workers=WORKERS)
            screen.update(seen, overview)
        for text in notes:
            screen.note(text)
        return terminal.getvalue()
    finally:
        screen.close()


def test_the_first_line_says_what_runs_where_and_until_when() -> None:
    shown = words(painted())

    assert "flowq 0.1.0  scrape  run 1m86wekeeynh9  redis://localhost:6379/0" in shown
    assert "all 4 stages, 2 workers, exits when drained (--forever to stay)" in shown


def test_the_first_line_of_some_stages_says_that_they_stay() -> None:
    shown = words(painted(about=replace(ABOUT, stages=("fetch", "parse"), drains=False)))

    assert "fetch, parse, 2 workers, runs until stopped" in shown


def test_the_table_shows_each_stage_the_way_back_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    seen = snapshot(6, known=1204, fetched=760, dead=3, delayed=19, running=8, retries=97, seen_before=14001)

    throughput = {"fetch": Throughput(118.0, 0.031, 0.062)}
    lines = [" ".join(line.split()) for line in words(painted(seen, throughput=throughput)).splitlines()]

    assert "stage cause slots in ok filtered dead waiting delayed running retries rate p95 forecast" in lines
    assert "seeds ● done - - 1 - - - - - - done - -" in lines
    assert "fetch ▲ busy 16 1,204 757 0 3 417 19 8 97 0/s 62ms -" in lines
    assert "store ○ idle 20 757 757 0 0 0 0 0 0 0/s - -" in lines
    assert "↺ parse→fetch 15,204 str = 1,203 new + 14,001 seen before" in lines
    assert "2,274 of 2,718 known" in words(painted(seen))


def test_80_columns_show_causes_and_forecasts() -> None:
    (header,) = (line.split() for line in words(painted(snapshot(1, known=1204))).splitlines() if "waiting" in line)

    assert header[:2] == ["stage", "cause"]
    assert header[-2:] == ["rate", "forecast"]


@pytest.mark.parametrize("columns", [20, 40, 60, 79, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    seen = [snapshot(t, known=10**7, fetched=10**6 * t, delayed=9, running=8, seen_before=10**8) for t in (1, 2)]

    throughput = dict.fromkeys(("fetch", "parse", "store"), Throughput(1.0, 61.0, 3599.0))
    shown = painted(*seen, notes=("worker 2 died (signal 9), restarted",), throughput=throughput)

    assert max(cell_len(line) for line in words(shown).splitlines()) <= columns


def test_a_narrow_terminal_keeps_what_went_wrong_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    (header,) = (line.split() for line in words(painted(snapshot(1, known=10))).splitlines() if "waiting" in line)

    assert header[0] == "stage"
    assert {"dead", "waiting"} <= set(header)
    assert not {"slots", "retries", "filtered"} & set(header)


def test_a_low_terminal_says_which_stages_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "7")

    shown = words(painted(snapshot(1, known=10)))

    assert "and 3 more stages" in shown
    assert HOW_TO_STOP in shown


def test_the_hint_changes_when_ctrl_c_means_something_else() -> None:
    terminal = Terminal()
    screen = choose_screen(PLAN, json=False, quiet=False, stdout=io.StringIO(), stderr=terminal)
    screen.begin(ABOUT)
    screen.note("stopping", hint="Ctrl-C again: hand back")
    before = len(terminal.getvalue())
    screen.update(snapshot(1, known=10))
    painted_after = words(terminal.getvalue()[before:])
    screen.close()

    assert "Ctrl-C again: hand back" in painted_after
    assert HOW_TO_STOP not in painted_after


def test_no_colour_is_sent_when_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = snapshot(1, known=10, fetched=5, dead=5, running=1)
    colours = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38;)[0-9;]*m")
    assert colours.search(painted(seen))

    monkeypatch.setenv("NO_COLOR", "1")

    assert not colours.search(painted(seen))


def test_nothing_of_a_note_can_move_the_cursor() -> None:
    shown = painted(notes=("worker said \x1b[2J[red]boo[/red]",))

    assert "\\x1b[2J[red]boo[/red]" in shown
    assert "\x1b[2J" not in shown


def test_the_end_gives_the_cursor_back_and_leaves_the_balance() -> None:
    terminal = Terminal()
    screen = choose_screen(PLAN, json=False, quiet=False, stdout=io.StringIO(), stderr=terminal)
    screen.begin(ABOUT)
    end = snapshot(8, known=10, fetched=10)
    screen.update(end)
    screen.end(summary(end), dead_before=0, stopped=False)

    shown = terminal.getvalue()

    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "drained in 8.4s: 10 stored, 0 dead" in words(shown)
    before = len(shown)
    screen.close()
    assert words(terminal.getvalue()[before:]).strip() == ""


# Lines in a log


def logged(*snapshots: Snapshot, quiet: bool = False) -> list[str]:
    """What a run writes to a file, up to its end."""
    stdout, stderr = io.StringIO(), io.StringIO()
    screen = choose_screen(PLAN, json=False, quiet=quiet, stdout=stdout, stderr=stderr)
    screen.begin(ABOUT)
    for seen in snapshots:
        screen.update(seen)
    screen.note("worker 2 died (signal 9), restarted")
    screen.end(summary(snapshots[-1]), dead_before=0, stopped=False)
    assert stdout.getvalue() == ""
    return stderr.getvalue().splitlines()


def test_a_log_gets_a_line_every_five_seconds() -> None:
    lines = logged(*(snapshot(tenth / 10, known=1000, fetched=tenth) for tenth in range(121)))

    progress = [line for line in lines if " working " in line]
    assert [line.split()[0] for line in progress] == ["0s", "5s", "10s"]
    assert "fetch 50 of 1,000 (10/s)" in progress[1]
    assert "left 950: 950 waiting" in progress[1]
    assert not any("\x1b" in line for line in lines)


def test_a_log_gets_a_line_when_the_phase_changes() -> None:
    lines = logged(
        snapshot(0, workers=0),
        snapshot(1, known=4, reading=True),
        snapshot(2, known=4, reading=True),
        snapshot(3, known=4),
        snapshot(4, known=4, fetched=4),
    )

    phases = [line.split()[:2] for line in lines if re.match(r"\d+s ", line)]
    assert phases == [["0s", "starting"], ["1s", "reading"], ["3s", "working"], ["4s", "drained"]]


def test_a_log_repeats_nothing_that_has_not_changed() -> None:
    lines = logged(*(snapshot(second, known=9, fetched=3) for second in range(60)))

    assert len([line for line in lines if " working " in line]) == 1


@pytest.mark.parametrize(("fetched", "word"), [(3, "stopping"), (9, "")])
def test_a_run_whose_workers_have_stopped_is_not_said_to_start(fetched: int, word: str) -> None:
    for terminal in (io.StringIO(), Terminal()):
        screen = choose_screen(PLAN, json=False, quiet=False, stdout=io.StringIO(), stderr=terminal)
        screen.begin(ABOUT)
        screen.update(snapshot(0, known=9, fetched=fetched))
        screen.stopping()
        before = len(terminal.getvalue())
        screen.update(snapshot(2, known=9, fetched=fetched, workers=0))
        screen.close()
        said = words(terminal.getvalue()[before:])
        assert "starting" not in said
        assert word in said


def test_a_quiet_run_tells_only_its_end() -> None:
    lines = logged(snapshot(0, workers=0), snapshot(9, known=4, fetched=4), quiet=True)

    assert lines[0] == "drained in 8.4s: 4 stored, 0 dead"
    assert len(lines) == 4


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    assert "\x1b" not in painted(snapshot(1, known=4))


# JSON


def test_json_is_an_object_a_second_and_the_summary_last() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    screen = choose_screen(PLAN, json=True, quiet=False, stdout=stdout, stderr=stderr)
    screen.begin(ABOUT)
    for tenth in range(31):
        seen = snapshot(tenth / 10, known=100, fetched=tenth, seen_before=5)
        throughput = {"fetch": Throughput(9.0, 0.031, 0.062)}
        screen.update(seen, overview_of(PLAN, seen, throughput=throughput, workers=WORKERS))
    end = summary(snapshot(4, known=100, fetched=100))
    screen.note("worker 2 died")
    screen.end(end, dead_before=0, stopped=False)

    *ticks, last = (json.loads(line) for line in stdout.getvalue().splitlines())

    assert [tick["seconds"] for tick in ticks] == [0, 1, 2, 3]
    assert (ticks[3]["left"], ticks[3]["phase"], ticks[3]["workers"]) == (70, "working", 2)
    assert ticks[3]["stages"]["fetch"]["in"] == 100
    assert ticks[3]["stages"]["fetch"]["rate"] == 10.0
    assert ticks[3]["stages"]["fetch"]["cause"]["kind"] == "keeps_up"
    assert [ticks[3]["stages"][stage]["p95_seconds"] for stage in ("fetch", "store")] == [0.062, None]
    assert last == json.loads(json.dumps(end.as_json()))
    assert "worker 2 died" in stderr.getvalue()


def test_quiet_json_is_the_summary_alone() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    screen = choose_screen(PLAN, json=True, quiet=True, stdout=stdout, stderr=stderr)
    screen.begin(ABOUT)
    screen.update(snapshot(1, known=4))
    end = summary(snapshot(4, known=4, fetched=4))
    screen.end(end, dead_before=0, stopped=False)

    assert [json.loads(line) for line in stdout.getvalue().splitlines()] == [json.loads(json.dumps(end.as_json()))]
    assert stderr.getvalue() == ""
