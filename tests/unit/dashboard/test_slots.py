"""The texts of a look: whatever the figures are, each is a text that fits its place, and what is unknown is a dash."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.forecasts import Forecast, ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.runs import StageBalance
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.slots import TERMS, rows, slots
from tests.unit.dashboard.overviews import never_run, with_edge, with_outlook, with_stage
from tests.unit.graph.plans import LONG, SCRAPE, Doc, plan

LARGE = plan("large", {f"s{number}": {} for number in range(20)}, [(f"s{n}", f"s{n + 1}", Doc) for n in range(19)])
counts = st.integers(0, 10**12)
rates = st.none() | st.floats(0, 1e9)
seconds = st.none() | st.floats(0, 1e9)
balances = st.builds(
    StageBalance, **dict.fromkeys(("entered", "ok", "filtered", "dead", "retries", "duplicates", "purged"), counts)
)


def texts(overview: Overview, **more: Any) -> dict[str, str]:
    return slots(Look(overview=overview, look_ms=1.0, **more))


def is_path(text: str) -> bool:
    return re.fullmatch(r"(M[\d .lVHZ-]+)*", text) is not None


@given(balances, rates, seconds, counts, st.none() | counts, st.lists(rates, max_size=80), st.lists(rates, max_size=60))
@settings(max_examples=50)
def test_whatever_the_figures_are_each_slot_is_a_short_text_without_nan(
    balance: StageBalance,
    rate: float | None,
    age: float | None,
    n: int,
    in_handler: int | None,
    history: list[float | None],
    left: list[float | None],
) -> None:
    speed = Throughput(rate, age, age)
    overview = with_stage(
        never_run(SCRAPE),
        "fetch",
        balance=balance,
        throughput=speed,
        dead_letters=n,
        waiting_seconds=age,
        memory_bytes=n,
        slots=n,
        in_handler=in_handler,
    )
    overview = with_edge(overview, "parse>fetch", waiting=n, outstanding=n, delayed=n, oldest_seconds=age, rate=rate)
    found = texts(overview, rates={"fetch": history}, left=left)
    assert all(isinstance(text, str) for text in found.values())
    assert not [name for name, text in found.items() if re.search(r"nan|inf\b|None", text)]
    assert not [name for name, text in found.items() if len(text) > 600]
    assert all(is_path(text) for name, text in found.items() if name.endswith((".spark", ".area", ".hour.line")))
    for name, text in found.items():
        if name.endswith((".x", ".w", ".use", ".meter", ".stroke")):
            assert float(text) >= 0


@pytest.mark.parametrize("drawn", [SCRAPE, LONG, LARGE], ids=lambda drawn: drawn.name)
def test_what_is_unknown_is_a_dash_and_never_zero(drawn: Any) -> None:
    found = texts(never_run(drawn))
    stage = drawn.stages[-1].name
    assert {found[f"s.{stage}.{name}"] for name in ("rate", "p50", "p95", "oldest")} == {"–"}
    assert found["p.left"] == "It has never run"


def test_the_parts_of_the_bar_are_next_to_each_other_and_make_all_of_it() -> None:
    balance = StageBalance(entered=100, ok=60, filtered=5, dead=3, purged=2, waiting=10, delayed=15, running=5)
    found = texts(with_stage(never_run(SCRAPE), "fetch", balance=balance))
    end = 0.0
    for term in TERMS:
        assert float(found[f"p.bar.{term}.x"]) == end
        end = float(found[f"p.bar.{term}.x"]) + float(found[f"p.bar.{term}.w"])
    assert end == 1000
    assert (found["p.in"], found["p.sum"], found["p.sum.state"], found["p.purged.level"]) == (
        "100",
        "adds up",
        "ok",
        "some",
    )


def test_a_sum_that_is_off_says_by_how_much_and_errors_of_two_stages_do_not_cancel() -> None:
    overview = with_stage(never_run(SCRAPE), "fetch", balance=StageBalance(entered=10, ok=7))
    overview = with_stage(overview, "parse", balance=StageBalance(entered=7, ok=10))
    found = texts(overview)
    assert (found["s.fetch.sum"], found["s.parse.sum"]) == ("off by 3", "off by 3")
    assert (found["p.sum"], found["p.sum.state"]) == ("off by 6", "dead")


@pytest.mark.parametrize(
    ("in_handler", "running", "n_slots", "shown"),
    [(10, 10, 10, "10 of 10"), (10, 30, 10, "10 of 10 +20"), (None, 30, 10, "30"), (0, 0, 0, "0")],
)
def test_a_card_tells_messages_in_a_handler_from_those_read_ahead(
    in_handler: int | None, running: int, n_slots: int, shown: str
) -> None:
    balance = StageBalance(entered=running, running=running)
    overview = with_stage(never_run(SCRAPE), "fetch", balance=balance, in_handler=in_handler, slots=n_slots)
    assert texts(overview)["s.fetch.slots"] == shown


def test_running_beyond_what_fits_drops_what_has_been_read_ahead_first() -> None:
    balance = StageBalance(entered=10**6, running=10**6)
    overview = with_stage(never_run(SCRAPE), "fetch", balance=balance, in_handler=99_900, slots=99_900)
    assert texts(overview)["s.fetch.slots"] in ("99.9k of 99.9k", "99.9k")


@pytest.mark.parametrize(
    ("outstanding", "is_full", "forecast", "level"),
    [
        (0, False, None, "none"),
        (100, False, None, "some"),
        (8_000, False, None, "high"),
        (100, False, Forecast(ForecastKind.FULL_IN, 60.0), "high"),
        (9_000, True, Forecast(ForecastKind.FULL), "full"),
    ],
)
def test_an_edge_is_as_conspicuous_as_it_is_full(
    outstanding: int, is_full: bool, forecast: Forecast | None, level: str
) -> None:
    edge = "fetch>parse"
    overview = with_edge(never_run(SCRAPE), edge, outstanding=outstanding, waiting=outstanding)
    forecasts = {edge: forecast} if forecast else {}
    overview = with_outlook(overview, forecasts=forecasts, full=frozenset({edge} if is_full else ()))
    found = texts(overview)
    assert found[f"e.{edge}.level"] == level
    assert found[f"e.{edge}.fill"] == ("full" if is_full else f"{outstanding / 10_000:.0%}")


def test_feedback_never_looks_as_if_it_held_something_back() -> None:
    overview = with_edge(never_run(SCRAPE), "parse>fetch", outstanding=20_000)
    found = texts(overview)
    assert (found["e.parse>fetch.level"], found["e.parse>fetch.fill"], found["e.parse>fetch.meter"]) == (
        "some",
        "200%",
        "96",
    )


def test_a_cause_is_whole_in_the_table_and_clipped_on_its_card() -> None:
    cause = Cause(CauseKind.HELD_BACK, by="a_stage_with_a_name_that_is_far_too_long_for_a_card")
    found = texts(with_outlook(never_run(SCRAPE), causes={"fetch": cause}))
    assert found["s.fetch.why"] == f"held back by {cause.by}"
    assert re.fullmatch(r"held back by a_s\w+…", found["s.fetch.brief"])
    assert (found["s.fetch.state"], found["s.fetch.icon"]) == ("blocked", "#i-blocked")


def test_keys_on_hold_are_rows_of_their_stage_and_never_too_many() -> None:
    held = [HeldKey("fetch", f"h{n}\x1b[2J", "HTTP 429", 19.0, 1, 5) for n in range(200)]
    found = rows(Look(overview=replace(never_run(SCRAPE), held=held), look_ms=1.0))
    assert len(found["held.fetch"]) == 50
    assert "\x1b" not in found["held.fetch"][0]["key"]
    assert len(found["attention"]) <= 4
    assert {row["href"] for row in found["attention"]} == {"/p/scrape/s/fetch"}


def test_a_line_about_dead_letters_leads_to_them() -> None:
    (row,) = rows(Look(overview=with_stage(never_run(SCRAPE), "fetch", dead_letters=3), look_ms=1.0))["attention"]
    assert (row["state"], row["href"]) == ("dead", "/p/scrape/dead")


def test_the_last_minutes_are_at_the_right_of_a_trend_and_what_is_unknown_is_a_gap() -> None:
    line = texts(never_run(SCRAPE), rates={"fetch": [1.0, 2.0, None, 2.0, 2.0]})["s.fetch.spark"]
    assert line == "M55 12l1-11M58 1l1 0"
