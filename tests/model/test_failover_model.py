"""The design of many nodes in every order of events with one failover: without any one of its parts it fails."""

from __future__ import annotations

import pytest

from tests.model.two_shards import Bug, explore

MISSING: list[tuple[Bug, str]] = [
    ("applies without a cursor", "doubled"),
    ("applies behind a gap", "drained early"),
    ("removes what the target may forget", "lost"),
    ("offers what the source may forget", "doubled"),
    ("numbers without an epoch", "doubled"),
    ("offers what it remembers of a forgotten history", "doubled"),
    ("drained while outboxes are full", "drained early"),
    ("drained by a look from before a failover", "drained early"),
]


def test_no_order_of_events_with_a_failover_loses_or_doubles_a_message_or_ends_a_run_early() -> None:
    outcome = explore()

    assert (outcome.wrong, outcome.story) == ("", [])
    assert outcome.n_states > 10_000
    assert outcome.n_drained > 100


@pytest.mark.parametrize(("bug", "wrong"), MISSING, ids=[bug for bug, _ in MISSING])
def test_a_design_that_lacks_one_part_is_found_out(bug: Bug, wrong: str) -> None:
    outcome = explore(bug)

    assert outcome.wrong == wrong, outcome.story
