"""How the messages of a call for other shards are divided into entries of outboxes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.broker.shards.outbox import MOST_ENTRY_BYTES, Group, Packet, packets
from flowq.broker.shards.outbox_contents import contents_of
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output

SMALLEST_LIMIT_OF_REDIS_BYTES = 1_048_576


def output(name: str, n_bytes: int) -> Output:
    return Output("fetch>parse", name.encode(), b"x" * n_bytes, b"")


def names(packet: Packet) -> list[str]:
    return [message.header.decode() for message in contents_of(packet.call).messages]


def test_all_for_one_shard_is_one_entry() -> None:
    groups = [Group("fetch>parse", None, [output("a", 10)]), Group(">store", None, [output("b", 10)], [output("c", 5)])]

    (packet,) = packets(groups, [3, 3])

    assert names(packet) == ["a", "b", "c"]
    assert (packet.to, packet.n_messages) == (3, 3)


def test_an_entry_is_never_larger_than_any_redis_accepts() -> None:
    first = [output(f"a{n}", 300_000) for n in range(5)]
    later = [output(f"b{n}", 300_000) for n in range(4)]
    made = packets([Group("fetch>parse", None, first, later), Group(">store", None, [output("c", 10)])], [3, 3])

    assert [name for packet in made for name in names(packet)] == [
        *(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(4)), "c",
    ]  # fmt: skip
    assert sum(packet.n_messages for packet in made) == 10
    assert all(len(packet.call) < SMALLEST_LIMIT_OF_REDIS_BYTES for packet in made)
    assert len(made) == 5


def test_a_message_that_is_larger_has_an_entry_of_its_own() -> None:
    made = packets([Group(">store", None, [output("a", 10), output("b", MOST_ENTRY_BYTES), output("c", 10)])], [1])

    assert [names(packet) for packet in made] == [["a"], ["b"], ["c"]]


@given(
    at=st.integers(0), n=st.integers(0, 9), put=st.one_of(st.binary(max_size=9), st.sampled_from([b"\r\n", b"$9\r\n"]))
)
def test_a_call_that_was_changed_anywhere_is_read_or_refused(at: int, n: int, put: bytes) -> None:
    memory = DedupMemory(60_000, (">store",))
    message = Output("a>store", b"m1 - - 0", b"body", b"v" * 16, 5)
    (packet,) = packets([Group("a>store", memory, [message], [message]), Group(">store", None, [message])], [3, 3])
    at %= len(packet.call)

    try:
        found = contents_of(packet.call[:at] + put + packet.call[at + n :])
    except ValueError:
        return
    assert len(found.messages) <= found.n_messages
