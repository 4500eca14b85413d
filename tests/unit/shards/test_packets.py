"""How the messages of a call for other shards are divided into entries of outboxes."""

from __future__ import annotations

from flowq.broker.shards.outbox import MOST_ENTRY_BYTES, Group, Packet, packets
from flowq.broker.shards.outbox_contents import contents_of
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
