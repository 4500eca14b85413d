"""What the page says about a stage: what holds it up, and whether the stage itself is the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq.broker.inspection.causes import Cause, CauseKind
from flowq.broker.records import WHOLE
from flowq.broker.runs import StageBalance
from flowq.wording.advice import advice
from tests.unit.dashboard.overviews import never_run, with_outlook, with_stage
from tests.unit.graph.plans import SCRAPE

ITSELF = "Nothing is wrong with fetch itself: "


def said(cause: Cause, stage: str = "fetch", balance: StageBalance | None = None) -> str:
    overview = with_stage(never_run(SCRAPE), stage, balance=balance or StageBalance())
    return advice(with_outlook(overview, causes={stage: cause}), SCRAPE.stage(stage))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            Cause(CauseKind.HELD_BACK, by="parse"),
            ITSELF + "the edge to parse is full. It resumes as soon as parse has made room.",
        ),
        (Cause(CauseKind.PACED), ITSELF + "its rate is 20 per second for each host."),
        (
            Cause(CauseKind.PACED, keys=("a.test",), seconds=19.2),
            ITSELF + "its rate is 20 per second for each host, and a.test is on hold for another 19 s.",
        ),
        (
            Cause(CauseKind.ON_HOLD, keys=("a.test\x1b[2J", "b.test"), seconds=0.0),
            ITSELF + r"2 keys are on hold, such as a.test\x1b[2J.",
        ),
        (
            Cause(CauseKind.ON_HOLD, keys=("",), seconds=3.0),
            ITSELF + "a handler has put it on hold for another 3 s.",
        ),
        (Cause(CauseKind.IDLE), "It has nothing to do at the moment."),
    ],
)
def test_a_cause_is_explained_in_a_sentence(cause: Cause, words: str) -> None:
    assert said(cause) == words


def test_a_busy_stage_has_its_slots_and_what_waits() -> None:
    busy = Cause(CauseKind.BUSY, running=8, slots=8)
    words = said(busy, balance=StageBalance(entered=1_300, waiting=1_292, running=8))
    assert words.startswith("8 of 8 slots are in use, and 1,292 messages wait.")


def test_a_source_says_what_it_has_yielded() -> None:
    given = StageBalance(entered=12, ok=12, out=12)
    assert said(Cause(CauseKind.READING), "seeds", given) == "It has yielded 12 messages so far and is still reading."
    assert said(Cause(CauseKind.DONE), "seeds", given) == "It has yielded everything: 12 messages."


@pytest.mark.parametrize(("paused", "what"), [("fetch", "It"), (WHOLE, "All of scrape")])
def test_a_pause_has_its_age_and_what_is_paused(paused: str, what: str) -> None:
    overview = with_outlook(never_run(SCRAPE), causes={"fetch": Cause(CauseKind.PAUSED)})
    since = {paused: overview.now_ms - 240_000}
    overview = replace(overview, snapshot=replace(overview.snapshot, paused=since))
    assert advice(overview, SCRAPE.stage("fetch")).startswith(f"{what} was paused 4 min ago")


@pytest.mark.parametrize("kind", CauseKind)
@pytest.mark.parametrize("stage", ["seeds", "fetch", "store"])
def test_every_cause_of_every_stage_has_one(kind: CauseKind, stage: str) -> None:
    words = said(Cause(kind, by="x"), stage)
    assert words.endswith(".")
    assert "None" not in words
