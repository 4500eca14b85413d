"""When a forwarder looks."""

from __future__ import annotations

from flowq.broker.shards.gathering import GATHER_SECONDS, QUIET_SECONDS, SWEEP_SECONDS, Gathering

BETWEEN = GATHER_SECONDS / 5


def busy(*channels: int) -> Gathering:
    """A moment after a round, at time 0, with channels on which much is sent."""
    gathering = Gathering()
    for to in channels:
        gathering.sent(to, -BETWEEN)
    gathering.begin_round(0.0)
    return gathering


def test_without_news_no_round_is_due() -> None:
    assert busy(1).round_due_in(BETWEEN) is None


def test_the_first_round_after_a_pause_does_not_wait() -> None:
    gathering = Gathering()
    gathering.sent(1, 0.0)

    assert gathering.round_due_in(0.0) == 0


def test_under_load_rounds_lie_apart_so_that_entries_gather() -> None:
    gathering = busy(1)
    gathering.sent(1, BETWEEN)

    assert gathering.round_due_in(BETWEEN) == GATHER_SECONDS - BETWEEN
    assert gathering.round_due_in(GATHER_SECONDS) == 0


def test_a_quiet_channel_does_not_wait_for_a_busy_one() -> None:
    gathering = busy(1)
    gathering.sent(1, BETWEEN)
    gathering.sent(2, BETWEEN)

    assert gathering.round_due_in(BETWEEN) == 0


def test_a_channel_is_quiet_again_after_a_while() -> None:
    gathering = busy(1)
    now = QUIET_SECONDS + BETWEEN
    gathering.begin_round(now)
    gathering.sent(1, now)

    assert gathering.round_due_in(now) == 0


def test_a_round_that_was_not_confirmed_is_repeated_without_news() -> None:
    gathering = busy(1)
    gathering.again()

    assert gathering.round_due_in(GATHER_SECONDS) == 0


def test_an_idle_forwarder_looks_once_a_second_and_at_once_after_an_error() -> None:
    gathering = Gathering()
    gathering.begin_sweep(0.0)
    assert gathering.sweep_due_in(0.25) == SWEEP_SECONDS - 0.25

    gathering.look_at_everything()
    assert gathering.sweep_due_in(0.25) == 0
