"""When looks at all shards prove that nothing is left to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq.broker.shards.channel import EntryId, Mark
from flowq.broker.shards.waves import Look, in_transit, is_drained

FIRST, SECOND, LATER = Mark(EntryId(5, 1), 3), Mark(EntryId(5, 2), 7), Mark(EntryId(6, 1), 5)


def looks(head: Mark, cursor: Mark | None) -> list[Look]:
    """Two idle shards, the first of which has sent to the second."""
    inbox = {0: cursor} if cursor else {}
    return [Look(0, 0, {1: head}, is_certain=True), Look(1, 0, {}, inbox, is_certain=True)]


@pytest.mark.parametrize(
    ("head", "cursor", "drained"),
    [
        (FIRST, FIRST, True),
        (FIRST, SECOND, True),  # the target was looked at later
        (FIRST, LATER, True),
        (SECOND, FIRST, False),
        (LATER, SECOND, False),  # though more messages were applied than this source remembers
        (FIRST, None, False),
    ],
)
def test_a_channel_is_empty_when_the_cursor_has_reached_its_head(
    head: Mark, cursor: Mark | None, drained: bool
) -> None:
    assert is_drained(looks(head, cursor)) == drained


def test_a_shard_with_work_left_or_that_may_forget_what_was_seen_is_not_drained() -> None:
    first, second = looks(FIRST, FIRST)

    assert not is_drained([first, replace(second, outstanding=1)])
    assert not is_drained([first, replace(second, is_certain=False)])


def test_a_target_that_was_not_looked_at_has_not_applied_anything() -> None:
    assert not is_drained(looks(FIRST, FIRST)[:1])


def test_channels_are_not_summed_up_against_each_other() -> None:
    one, other = looks(FIRST, SECOND)  # 4 messages ahead
    late = replace(other, heads={0: Mark(EntryId(5, 1), 4)})  # and 4 behind

    assert not is_drained([one, late])
    assert in_transit([one, late]) == {(1, 0): 4}
