"""What a run says at its end: a line, and the balance of each stage."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.records import Snapshot
from flowq.broker.runs import StageBalance
from flowq.cli.views.run_text import end_lines
from flowq.dead_letters.source_rejects import SourceReject, SourceRejects
from tests.unit.crawl_run import PLAN, snapshot, summary


def ended(at_the_end: Snapshot, *, dead_before: int = 0, stopped: bool = False, width: int = 120) -> list[str]:
    told = end_lines(PLAN, summary(at_the_end), dead_before=dead_before, stopped=stopped, width=width)
    return [line.plain for line in told]


def test_a_drained_run_ends_with_what_was_stored_and_a_balance_of_each_stage() -> None:
    assert ended(snapshot(8, known=1204, fetched=1204, retries=165)) == [
        "drained in 8.4s: 1,204 stored, 0 dead",
        "  fetch  in 1,204 = ok 1,204 + filtered 0 + dead 0 + left 0   165 retries",
        "  parse  in 1,204 = ok 1,204 + filtered 0 + dead 0 + left 0",
        "  store  in 1,204 = ok 1,204 + filtered 0 + dead 0 + left 0",
    ]


def test_dead_letters_are_counted_and_the_command_to_look_is_named() -> None:
    lines = ended(snapshot(8, known=1204, fetched=1204, dead=7), dead_before=5)

    assert lines[0] == "drained in 8.4s: 1,197 stored, 7 dead (2 new)"
    assert lines[1] == "  fetch  in 1,204 = ok 1,197 + filtered 0 + dead 7 + left 0"
    assert lines[-1].endswith("flowq dlq ls scrape")


def test_a_stopped_run_says_what_is_left_and_how_to_resume() -> None:
    lines = ended(snapshot(8, known=100, fetched=60, delayed=5), stopped=True)

    assert lines[0] == "stopped after 8.4s: 60 stored, 0 dead, 40 left"
    assert lines[1] == "  fetch  in 100 = ok 60 + filtered 0 + dead 0 + left 40"
    assert lines[-1].endswith("run the same command again")


def test_a_balance_that_does_not_add_up_is_not_hidden() -> None:
    end = summary(snapshot(8, known=9, fetched=9))
    broken = replace(end, stages={**end.stages, "parse": StageBalance(entered=9, ok=7)})

    lines = [line.plain for line in end_lines(PLAN, broken, dead_before=0, stopped=False, width=120)]

    assert [line for line in lines if "does not add up" in line] == [lines[2]]


def test_what_sources_rejected_comes_before_the_next_command_and_stays_within_the_terminal() -> None:
    first = [SourceReject("fetch", f"a.csv, line {n}: \x1b[2J{'x' * 200}", "DecodeError: bad") for n in (3, 9)]
    end = replace(
        summary(snapshot(8, known=10, fetched=10, dead=2)), rejects=SourceRejects(12_345, is_more=True, first=first)
    )

    lines = [line.plain for line in end_lines(PLAN, end, dead_before=0, stopped=False, width=80)]
    assert lines[4] == "rejected      more than 12,345 values from sources, first:"
    assert [line[:20] for line in lines[5:9:2]] == ["  a.csv, line 3: \\x1", "  a.csv, line 9: \\x1"]
    assert max(map(len, lines)) == 80
    assert lines[-1].endswith("flowq dlq ls scrape")


def test_asides_go_to_a_line_of_their_own_where_the_terminal_is_narrow() -> None:
    end = snapshot(8, known=1204, fetched=1204, retries=97, seen_before=14001)

    assert ended(end, width=80)[2] == "         97 retries, 14,001 seen before"
    assert ended(end, width=120)[1].endswith("left 0   97 retries, 14,001 seen before")


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_terms_of_a_balance_stand_below_each_other_and_add_up(ok: int, dead: int, left: int) -> None:
    lines = ended(snapshot(1, known=ok + dead + left, fetched=ok + dead, dead=dead))[1:4]

    assert len({tuple(match.start() for match in re.finditer(r"[=+]", line)) for line in lines}) == 1
    for line in lines:
        entered, *terms = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", line)[:5])
        assert entered == sum(terms)
