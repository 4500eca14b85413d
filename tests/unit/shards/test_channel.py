"""What a forwarder does next on a channel: a fake clock and entries without contents."""

from __future__ import annotations

from flowq.broker.shards.channel import (
    CLOGGED_MESSAGES,
    MOST_BYTES,
    MOST_ENTRIES,
    MOST_MESSAGES,
    Ask,
    Bridge,
    Channel,
    EntryId,
    Mark,
    Offer,
    Read,
    Wait,
)
from flowq.broker.shards.outbox import Entry

LATER, MUCH_LATER = 1.0, 10.0


def entry(name: str, before: str, total: int, *, n_bytes: int = 1) -> Entry:
    return Entry(1, name.encode(), before.encode(), total, b">parse 0 16 ", 1, b"x" * n_bytes, 1)


def mark(name: str, total: int = 0) -> Mark:
    return Mark.parse(f"{name} {total}".encode())


def channel(*, head: str, cursor: str, memory: list[Entry] | None = None) -> Channel:
    made = Channel(1)
    for each in memory or []:
        made.remember(each)
    made.confirmed(mark(head))
    made.answered(mark(cursor))
    return made


def after_patience(made: Channel) -> object:
    """What it does once it has waited for what is missing, and the target has said that it is missing still."""
    assert made.cursor is not None
    made.next_step(0)
    assert made.next_step(LATER) == Ask()
    made.answered(made.cursor)
    return made.next_step(LATER)


FIRST, SECOND, THIRD = entry("5-1", "0-0", 1), entry("5-2", "5-1", 2), entry("5-3", "5-2", 3)


def test_ids_of_a_later_epoch_are_higher_whatever_their_number() -> None:
    assert EntryId.parse(b"6-1") > EntryId.parse(b"5-900")
    assert str(EntryId(5, 7)) == "5-7"
    assert EntryId(5, 7).following == "5-8"


def test_a_channel_on_which_nothing_was_sent_costs_nothing() -> None:
    assert Channel(1).next_step(0) is None


def test_it_asks_what_is_applied_before_it_offers_anything() -> None:
    made = Channel(1)
    made.remember(FIRST)
    made.confirmed(mark("5-1"))

    assert made.next_step(0) == Ask()


def test_remembered_entries_that_follow_the_cursor_are_offered_in_order_however_they_were_noted() -> None:
    made = channel(head="5-3", cursor="0-0", memory=[THIRD, FIRST, SECOND])

    assert made.next_step(0) == Offer([FIRST, SECOND, THIRD])


def test_what_the_source_has_not_confirmed_is_not_offered() -> None:
    made = channel(head="5-1", cursor="0-0", memory=[FIRST, SECOND])

    assert made.next_step(0) == Offer([FIRST])


def test_nothing_is_left_to_do_once_the_head_is_applied() -> None:
    made = channel(head="5-2", cursor="5-2", memory=[FIRST, SECOND])

    assert made.next_step(0) is None
    assert not made.remembers


def test_an_entry_of_a_forgotten_history_is_never_offered_from_memory() -> None:
    """Its number is not above the head, but the head is of another epoch: the outbox decides."""
    made = channel(head="6-1", cursor="0-0", memory=[FIRST])

    assert isinstance(made.next_step(0), Wait)
    assert after_patience(made) == Read(EntryId(0, 0), EntryId(6, 1))


def test_entries_of_an_earlier_epoch_are_offered_if_one_of_the_heads_epoch_follows_them() -> None:
    next_epoch = entry("6-1", "5-1", 2)
    made = channel(head="6-1", cursor="0-0", memory=[FIRST, next_epoch])

    assert made.next_step(0) == Offer([FIRST, next_epoch])


def test_after_a_failover_that_forgot_the_confirmed_head_is_lower() -> None:
    made = channel(head="5-3", cursor="0-0", memory=[FIRST, SECOND, THIRD])
    made.confirmed(mark("5-1"))

    assert made.next_step(0) == Offer([FIRST])


def test_entries_behind_a_missing_one_are_offered_in_the_hope_that_another_forwarder_sends_it() -> None:
    made = channel(head="5-2", cursor="0-0", memory=[SECOND])

    assert made.next_step(0) == Offer([SECOND])
    made.refused(0)
    assert isinstance(made.next_step(0), Wait)
    assert made.next_step(0.01) == Offer([SECOND])


def test_what_stays_missing_is_read_from_the_outbox_after_the_target_was_asked() -> None:
    made = channel(head="5-2", cursor="0-0", memory=[SECOND])

    assert after_patience(made) == Read(EntryId(0, 0), EntryId(5, 2))


def test_what_another_forwarder_has_applied_meanwhile_is_not_read() -> None:
    made = channel(head="5-2", cursor="0-0")
    made.next_step(0)
    made.lost_touch()
    assert made.next_step(LATER) == Ask()
    made.answered(mark("5-2"))

    assert made.next_step(LATER) is None


def test_a_target_that_fell_back_gets_again_what_it_has_forgotten() -> None:
    made = channel(head="5-3", cursor="5-3")
    made.lost_touch()
    assert made.next_step(0) == Ask()
    made.answered(mark("5-1"))

    assert after_patience(made) == Read(EntryId(5, 1), EntryId(5, 3))


def test_a_gap_is_bridged_only_when_it_persists_and_the_target_was_asked_again() -> None:
    made = channel(head="5-3", cursor="5-1", memory=[])
    made.found_gap(0)

    assert isinstance(made.next_step(0), Wait)
    assert made.next_step(LATER) == Ask()
    made.answered(mark("5-1"))
    assert made.next_step(LATER) == Read(EntryId(5, 1), EntryId(5, 3))
    made.found_gap(LATER)
    assert made.next_step(MUCH_LATER) == Ask()
    made.lost_touch()  # even over another connection
    made.answered(mark("5-1", 7))
    assert made.next_step(MUCH_LATER) == Bridge(mark("5-1", 7))


def test_a_gap_is_forgotten_when_the_cursor_moves() -> None:
    made = channel(head="5-3", cursor="5-1")
    made.found_gap(0)
    made.answered(mark("5-2"))

    assert after_patience(made) == Read(EntryId(5, 2), EntryId(5, 3))
    assert made.next_step(MUCH_LATER) != Bridge(mark("5-2"))


def test_a_call_carries_no_more_entries_messages_or_bytes_than_its_limits() -> None:
    small = [entry(f"5-{n}", f"5-{n - 1}" if n > 1 else "0-0", n) for n in range(1, MOST_ENTRIES + 50)]
    full = [entry("5-1", "0-0", MOST_MESSAGES - 1), entry("5-2", "5-1", MOST_MESSAGES + 1)]
    large = [entry("5-1", "0-0", 1, n_bytes=MOST_BYTES + 1), entry("5-2", "5-1", 2)]

    assert channel(head="5-900", cursor="0-0", memory=small).next_step(0) == Offer(small[:MOST_ENTRIES])
    assert channel(head="5-2", cursor="0-0", memory=full).next_step(0) == Offer(full[:1])
    assert channel(head="5-2", cursor="0-0", memory=large).next_step(0) == Offer(large[:1])


def test_a_call_that_is_too_much_for_the_target_is_halved_and_grows_again() -> None:
    entries = [entry(f"5-{n}", f"5-{n - 1}" if n > 1 else "0-0", n) for n in range(1, 9)]
    made = channel(head="5-8", cursor="0-0", memory=entries)

    made.was_too_much(8)
    assert made.next_step(0) == Offer(entries[:4])
    made.was_too_much(4)
    made.was_too_much(2)
    made.was_too_much(1)
    assert made.next_step(0) == Offer(entries[:1])
    made.fitted()
    assert made.next_step(0) == Offer(entries[:2])


def test_a_channel_is_clogged_by_messages_that_the_target_does_not_take() -> None:
    made = Channel(1)
    made.remember(entry("5-1", "0-0", CLOGGED_MESSAGES))
    assert not made.is_clogged

    made.remember(entry("5-2", "5-1", CLOGGED_MESSAGES + 1))
    assert made.is_clogged

    made.answered(mark("5-1", CLOGGED_MESSAGES))
    assert not made.is_clogged


def test_a_channel_is_clogged_by_bytes() -> None:
    made = Channel(1)
    for n in range(1, 200):
        made.remember(entry(f"5-{n}", f"5-{n - 1}", n, n_bytes=1_000_000))

    assert made.is_clogged
