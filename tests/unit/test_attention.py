"""What needs attention: at most four lines, the worst first, and no number that is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq import Pipeline, Rate, source, stage
from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.inspection.forecasts import Forecast, ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.broker.inspection.throughput import Throughput
from flowq.broker.records import EdgeState, Snapshot
from flowq.graph.compilation.plan import Plan
from flowq.wording.attention import attention
from flowq.wording.cause_words import STATES, cause_line, cause_word, forecast_words, stage_sentence
from flowq.wording.headline import headline, state_word
from flowq.wording.quantities import compact, span_words
from tests.unit.overviews import overview_of


def dispatch() -> Plan:
    @source
    def rows() -> Iterator[int]:
        yield 1

    @stage(concurrency=20, maxsize=4000)
    async def notify(row: int) -> str | bytes: ...

    @stage(concurrency=8, rate=Rate(400, by=str))
    async def webhook(hook: str) -> None: ...

    @stage(concurrency=2, maxsize=1000)
    async def email(mail: bytes) -> None: ...

    return Pipeline("dispatch", rows >> notify >> (webhook | email)).plan


PLAN = dispatch()
ALL = {"one": ("notify", "webhook", "email")}
SPEEDS = {"rows": 97.0, "notify": 98.0, "webhook": 9.0, "email": 2.6}


def seen(
    waiting: dict[str, int],
    *,
    paused: tuple[str, ...] = (),
    dead: dict[str, int] | None = None,
    held: tuple[HeldKey, ...] = (),
    workers: dict[str, tuple[str, ...]] = ALL,
    run: dict[str, str] | None = None,
) -> Overview:
    """A look at the pipeline with so many messages on its edges."""
    snapshot = Snapshot(
        counters={"out:rows": 1},
        run={"id": "r", "source:rows": "open"} if run is None else run,
        workers=(),
        now_ms=1_700_000_000_000,
        edges={edge.name: EdgeState(waiting.get(edge.name, 0), 0, 0) for edge in PLAN.edges},
        dead_letters=dead or {},
        paused=dict.fromkeys(paused, 1_700_000_000_000),
    )
    throughput = {name: Throughput(speed) for name, speed in SPEEDS.items()}
    return overview_of(PLAN, snapshot, throughput=throughput, held=held, workers=workers)


def told(overview: Overview) -> list[tuple[str, str, str, str]]:
    return [(line.state, line.title, line.text, line.stage) for line in attention(overview)]


JAM = {"rows>notify": 4100, "notify>email": 1050}


def test_the_bottleneck_is_the_stage_that_is_not_held_back_itself() -> None:
    overview = seen({**JAM, "rows>notify": 400_000})  # notify would need longer

    assert overview.bottleneck == "email"
    assert told(overview) == [
        ("busy", "email is the bottleneck:", "1,050 waiting at 2.6/s", "email"),
        ("blocked", "rows", "is held back by notify, which has 400,000 left", "rows"),
        ("blocked", "notify", "is held back by email, which has 1,050 left", "notify"),
    ]


def test_kinds_that_take_too_many_lines_are_told_in_one() -> None:
    held = tuple(HeldKey("webhook", f"{n}.test", "HTTP 429", 40.0 - n, 0, n) for n in range(5))

    lines = told(seen(JAM, held=held, dead={"email": 45, "webhook": 154}))

    assert lines[1][1:3] == ("rows", "is held back by notify, which has 4,100 left; 1 more held back")
    assert lines[2] == ("held", "4.test", "on hold for another 36 s, HTTP 429; 4 waiting; 4 more on hold", "webhook")
    assert lines[3] == ("dead", "199 dead letters", "most in webhook", "webhook")
    assert len(lines) == 4


def test_a_pipeline_without_workers_says_so_once() -> None:
    assert told(seen(JAM, workers={}))[0][1:3] == ("rows", "is held back by notify, which has 4,100 left")
    assert told(seen({">webhook": 3}, workers={})) == [("alone", "No worker is running:", "3 messages left", "rows")]
    assert told(seen({">webhook": 3}, workers={"one": ("notify", "email")})) == [
        ("alone", "webhook", "has no worker; 3 waiting", "webhook")
    ]


def test_what_is_paused_is_told_for_each_stage_or_once_for_all() -> None:
    assert told(seen({">email": 7}, paused=("email",))) == [("paused", "email", "is paused; 7 waiting", "email")]
    assert told(seen({">email": 7}, paused=("*", "email"))) == [("paused", "dispatch", "is paused", "")]


def test_what_is_well_needs_no_attention() -> None:
    assert told(seen({})) == []


def test_hostile_names_of_keys_stay_on_their_line() -> None:
    held = (HeldKey("webhook", "\x1b[2J\nb", "\u202enope", 3.0, 0, 1),)

    lines = told(seen({}, held=held, dead={"email": 1}))

    assert all(text.isprintable() for line in lines for text in line)


@pytest.mark.parametrize(
    ("overview", "state", "line"),
    [
        (seen({}, run={}, workers={}), "drained", "Nothing is left: everything is done"),
        (seen(JAM), "reading", "5,150 left"),
        (seen({">email": 26}, run={"id": "r"}), "working", "26 left, about 10 s to go"),
        (seen({">email": 26}, run={"id": "r"}, workers={}), "stopped", "26 left"),
        (seen({">email": 26}, paused=("*",)), "paused", "26 left"),
        (seen({}), "reading", "Nothing is left at the moment"),
    ],
)
def test_the_headline_says_what_is_left_and_until_when(overview: Overview, state: str, line: str) -> None:
    assert (state_word(overview), headline(overview)) == (state, line)


def test_a_pipeline_that_never_ran_says_so() -> None:
    overview = seen({}, run={}, workers={})
    never = replace(overview, snapshot=replace(overview.snapshot, counters={}))
    assert headline(never) == "It has never run"


def test_a_stage_is_one_sentence_that_begins_with_its_name() -> None:
    held = (HeldKey("webhook", "a.test", "HTTP 429", 19.0, 0, 1),)
    overview = seen({"notify>webhook": 30}, held=held, dead={"webhook": 598})

    sentence = "1 on hold, others paced (a.test), 9.0/s, 30 waiting, 598 dead letters"
    assert stage_sentence(overview, "webhook") == f"webhook: {sentence}"


KEYS = st.lists(st.text(max_size=4), max_size=3).map(tuple)
CAUSES = st.builds(
    Cause,
    kind=st.sampled_from(CauseKind),
    by=st.just("store"),
    keys=KEYS,
    seconds=st.none() | st.floats(0, 1e12),
    running=st.none() | st.integers(0, 99),
    slots=st.integers(0, 99),
)


@given(CAUSES)
def test_a_cause_has_a_word_a_line_and_a_state_whatever_is_known(cause: Cause) -> None:
    for text in (cause_word(cause), cause_line(cause), STATES[cause.kind]):
        assert text
        assert "nan" not in text.lower()
        assert "None" not in text
        assert "inf" not in text


@given(st.floats(0, 1e9))
def test_a_span_has_a_number_above_zero_and_a_unit(seconds: float) -> None:
    number, unit = span_words(seconds).split(" ")

    assert float(number.replace(",", "")) > 0
    assert unit in ("s", "min", "h", "days")
    size = {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(seconds, rel=0.35, abs=1)


@given(st.integers(0, 10**15))
def test_a_compact_number_is_short_and_near(n: int) -> None:
    text = compact(n)
    size = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.get(text[-1], 1)

    assert len(text) <= 6
    assert float(text.rstrip("kMGTP").replace(",", "")) * size == pytest.approx(n, rel=0.051)


@pytest.mark.parametrize("kind", ForecastKind)
def test_a_forecast_has_a_word(kind: ForecastKind) -> None:
    seconds = 240.0 if kind.value.endswith("_in") else None
    words = forecast_words(Forecast(kind, seconds))
    assert words == kind.value.replace("_", " ") + (" 4 min" if seconds else "")
