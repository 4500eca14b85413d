"""Recent actions on dead letters say what was done, without values that the page does not show."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.audit import AuditRecord
from flowq.dashboard.access.shown_conditions import shown_words
from flowq.dashboard.access.shown_fields import MASK, ShownFields, masked_text
from flowq.dashboard.pages.kinds_view import done_here
from flowq.dead_letters.condition import Condition
from flowq.dead_letters.selection import Selection
from flowq.wording.shell_commands import selection_words, shell_command

EVERYTHING, HIDDEN = ShownFields(everything=True), ShownFields(everything=False, paths=("dest",))
LONGEST = 300  # of a selection in the audit


def typed(*where: str, error: str = "") -> str:
    selection = Selection("book", error, where=tuple(map(Condition.parse, where)))
    return shell_command(*selection_words(selection))


@pytest.mark.parametrize("operator", ["=", "!=", "~", "<", "<=", ">", ">="])
@given(value=st.text(), error=st.text())
def test_no_value_typed_in_a_terminal_is_shown_where_bodies_are_hidden(operator: str, value: str, error: str) -> None:
    written = f"mail{operator}{value}"
    compared = f"mail{Condition.parse(written).operator}"
    assert shown_words(typed(written, "dest=SJU", error=error), HIDDEN) == (
        f"{masked_text(typed(error=error))} --where {compared}{MASK} --where dest=SJU"
    )


@given(value=st.text(min_size=1).map(lambda text: text * LONGEST))
def test_no_value_is_shown_of_a_record_that_was_cut(value: str) -> None:
    cut = typed(f"mail={value}")[:LONGEST]
    assert shown_words(cut, HIDDEN) == f"--stage book --where mail={MASK}"


def test_secrets_are_masked_where_bodies_are_shown() -> None:
    selection = typed("password=s3cret", "dest=SJU", error="*https://ann:s3cret@shop.test/*")
    assert shown_words(selection, EVERYTHING) == (
        f"--stage book --error '*https://ann:••••••@shop.test/*' --where password={MASK} --where dest=SJU"
    )


def test_only_changes_to_dead_letters_are_recent_actions() -> None:
    now = datetime(2026, 11, 29, 15, 0, tzinfo=UTC)
    records = [
        AuditRecord(0, "ana@pad", "pause", "book", 0, "done"),
        AuditRecord(0, "ana@pad", "retry", typed("mail~ann*"), 3, "done"),
        AuditRecord(0, "bob@pad", "remove", "", 0, "refused: its token is not valid"),
    ]
    assert [(each.title, each.text) for each in done_here(records, HIDDEN, now)] == [
        ("retried 3 messages", f"--stage book --where mail~{MASK} · by ana@pad"),
        ("remove: refused: its token is not valid", "all · by bob@pad"),
    ]
