"""A filter by error compares what pages show, so that it does not tell what they mask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest

from flowq import Pipeline, stage
from flowq.broker.open import open_broker
from flowq.dashboard.access.shown_fields import ShownFields, masked_text
from flowq.dashboard.actions.action import Scene
from flowq.dashboard.actions.repairing import Retry
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.letter_filters import LetterFilters
from flowq.dead_letters.letter_kinds import LetterKinds, Told
from flowq.dead_letters.selection import Selection
from flowq.settings import Settings

LINE = "HTTPError: GET https://ann:s3cret@shop.test/?page=2&api_key=k3y failed"
PROBES = ["*s3cret*", "*ann:s*", "*ann:[a-z]*", "*api_key=k*", "*api_key=???&*", LINE]
SHOWN = ["*", "HTTPError: *failed", "*https://ann:*@shop.test/*", "*page=2*", masked_text(LINE)]


@stage
async def fetch(url: str) -> None:
    print(url)


PLAN = Pipeline("shop", fetch).plan
EVERYTHING = ShownFields(everything=True)


def of_a_page(error: str) -> Selection:
    return LetterFilters(error=error).selection(PLAN, datetime.now(UTC), EVERYTHING)


def of_an_action(error: str) -> Selection:
    settings = Settings.of_program(redis="memory")
    watch = Watch(PLAN, partial(open_broker, PLAN.name, settings), history_seconds=0)
    return Retry(error=error).selection(Scene(watch, EVERYTHING, settings))


@pytest.mark.parametrize("selection_of", [of_a_page, of_an_action])
def test_a_password_in_an_error_cannot_be_probed(selection_of: Callable[[str], Selection]) -> None:
    assert [error for error in PROBES if selection_of(error).matches(LINE)] == []
    assert [error for error in SHOWN if selection_of(error).matches(LINE)] == SHOWN


def test_the_kinds_of_a_page_are_matched_as_they_are_shown() -> None:
    kinds = LetterKinds(["fetch"])
    kinds.add("fetch", "1-0", 1, Told.of({"error": LINE}, masked_text))
    assert [error for error in PROBES if kinds.kinds(error=error)] == []
    assert [[kind.error for kind in kinds.kinds(error=error)] for error in SHOWN] == [[masked_text(LINE)]] * len(SHOWN)


@pytest.mark.parametrize("n", range(440, 500))
def test_a_password_that_the_cut_of_a_long_error_falls_into_is_masked(n: int) -> None:
    line = f"{'x' * n} https://ann:s3cret{'!' * 60}@shop.test/"
    assert "s3" not in Told.of({"error": line}, masked_text).line


def test_a_command_in_a_terminal_compares_the_whole_error() -> None:
    assert Selection(error="*s3cret*").matches(LINE)
