"""What a server is certain to remember, judged by what it says of its replicas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq.broker.shards.certainty import (
    IN_MEMORY,
    ON_DISK_SECONDS,
    Confirmation,
    Replication,
    Retention,
    confirmation_needed,
)
from flowq.broker.shards.channel import EntryId
from flowq.delivery.policy import Durability

REPLY = b"""# Replication\r
role:master\r
connected_slaves:2\r
slave0:ip=127.0.0.1,port=7001,state=online,offset=90,lag=0\r
slave1:ip=127.0.0.1,port=7002,state=wait_bgsave,offset=0,lag=0\r
master_replid:53ff237644b04b02bc423dba21bb4473488fa563\r
master_repl_offset:100\r
"""
DISK = b"# Persistence\r\naof_enabled:1\r\n"
ALONE = Replication(is_primary=True, history="h", offset=100, online=(), has_syncing_replica=False)
WITH_REPLICA = replace(ALONE, online=(90,))
A, B = EntryId(5, 1), EntryId(5, 2)


def test_what_a_server_says_of_its_replicas_is_read() -> None:
    history = "53ff237644b04b02bc423dba21bb4473488fa563"

    assert Replication.parse(REPLY, DISK) == Replication(
        is_primary=True, history=history, offset=100, online=(90,), has_syncing_replica=True, has_append_only_file=True
    )


@pytest.mark.parametrize(
    ("durability", "state", "is_alone", "needed"),
    [
        ("local", WITH_REPLICA, False, Confirmation(replicas=1)),
        ("local", replace(ALONE, online=(90, 80)), False, Confirmation(replicas=2)),
        ("local", ALONE, True, Confirmation()),
        ("local", ALONE, False, None),  # cut off from its replica, for all that is known
        ("local", replace(ALONE, has_syncing_replica=True), False, Confirmation()),
        ("local", replace(ALONE, is_primary=False), True, None),
        ("replicated", WITH_REPLICA, False, Confirmation(replicas=1)),
        ("replicated", ALONE, True, Confirmation(disk=True)),
        ("replicated", IN_MEMORY, False, Confirmation()),
    ],
)
def test_what_must_confirm_an_entry_before_it_is_offered(
    durability: Durability, state: Replication, is_alone: bool, needed: Confirmation | None
) -> None:
    assert confirmation_needed(durability, state, is_alone=is_alone) == needed


def test_all_attached_replicas_must_answer_since_any_may_be_elected() -> None:
    needed = Confirmation(replicas=2)

    assert needed.is_given_by([1, 2])
    assert not needed.is_given_by([1, 1])


def test_replicas_confirm_nothing_where_nothing_was_written() -> None:
    assert not Confirmation(replicas=1).is_given_by([0, 1])
    assert not Confirmation(disk=True).is_given_by([0, [1, 0]])


def test_only_a_confirmation_by_the_answer_itself_needs_no_further_replies() -> None:
    assert (Confirmation().commands("probe"), Confirmation().is_given_by([])) == ((), True)
    assert not Confirmation(replicas=1).is_given_by([])


def test_a_server_that_does_not_know_how_to_confirm_confirms_nothing() -> None:
    refused = RuntimeError("unknown command")

    assert Confirmation(disk=True).is_given_by([1, [1, 0]])
    assert not Confirmation(disk=True).is_given_by([1, [0, 0]])
    assert not Confirmation(disk=True).is_given_by([1, refused])
    assert not Confirmation(replicas=1).is_given_by([1, refused])


class Clock:
    """A retention that is looked at over one connection."""

    def __init__(self) -> None:
        self.retention, self.connection = Retention(), object()

    def look(self, state: Replication, now: float = 0.0, *, is_alone: bool = False) -> EntryId | None:
        self.retention.look(state, self.connection, now, is_alone=is_alone)
        return self.retention.to_remove


@pytest.fixture
def clock() -> Clock:
    made = Clock()
    made.retention.applied(A, made.connection)
    return made


def test_an_entry_is_kept_until_the_replica_has_what_was_written_before_the_first_look(clock: Clock) -> None:
    assert clock.look(WITH_REPLICA) is None
    assert clock.look(replace(WITH_REPLICA, offset=200, online=(99,))) is None
    assert clock.look(replace(WITH_REPLICA, offset=200, online=(100,))) == A


def test_one_replica_that_lags_keeps_it(clock: Clock) -> None:
    clock.look(WITH_REPLICA)

    assert clock.look(replace(WITH_REPLICA, online=(100, 99))) is None


def test_what_is_applied_after_the_first_look_has_to_wait_for_the_next(clock: Clock) -> None:
    clock.look(WITH_REPLICA)
    clock.retention.applied(B, clock.connection)
    clock.look(replace(WITH_REPLICA, offset=200, online=(150,)))
    assert clock.retention.certain == A

    clock.look(replace(WITH_REPLICA, offset=300, online=(200,)))
    assert clock.retention.certain == B
    assert not clock.retention.has_uncertain


def test_another_history_or_connection_says_nothing_of_what_was_applied_before(clock: Clock) -> None:
    promoted = replace(WITH_REPLICA, history="other", offset=500, online=(500,))
    clock.look(WITH_REPLICA)
    clock.look(promoted)
    assert clock.retention.certain < A

    clock.connection = object()
    clock.look(promoted)
    clock.look(promoted)
    assert clock.retention.certain < A


def test_without_a_replica_an_entry_is_kept_for_as_long_as_the_disk_may_take(clock: Clock) -> None:
    assert clock.look(ALONE, 0.0, is_alone=True) is None
    assert clock.look(ALONE, ON_DISK_SECONDS - 0.1, is_alone=True) is None
    assert clock.look(ALONE, ON_DISK_SECONDS, is_alone=True) == A


def test_without_a_replica_and_a_file_waiting_would_make_nothing_safer(clock: Clock) -> None:
    state = replace(ALONE, has_append_only_file=False)
    clock.look(state, is_alone=True)

    assert clock.look(state, is_alone=True) == A


def test_a_primary_that_may_be_cut_off_from_its_replica_never_makes_it_certain(clock: Clock) -> None:
    clock.look(ALONE)

    assert clock.look(ALONE, 10 * ON_DISK_SECONDS) is None


def test_a_server_in_memory_is_certain_at_once(clock: Clock) -> None:
    assert clock.look(IN_MEMORY) == A
