"""How many messages a read asks for after replies that were cut off."""

from __future__ import annotations

from flowq.broker.paging import ReadSize


def test_a_read_asks_for_half_as_many_after_each_reply_that_was_cut_off_down_to_one_of_one_edge() -> None:
    size, asked = ReadSize(), list[int]()
    for _ in range(6):
        asked.append(size.bound(20))
        size.cut_off(asked[-1])

    assert asked == [20, 10, 5, 2, 1, 1]
    assert size.is_one_edge
    assert size.failures == 1


def test_a_read_asks_for_more_again_as_replies_arrive() -> None:
    size = ReadSize()
    size.cut_off(1)
    sizes = [size.bound(100)]
    for _ in range(2000):
        size.arrived()
        sizes.append(size.bound(100))

    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 100)
    assert size.failures == 0


def test_a_read_that_was_never_cut_off_asks_for_all() -> None:
    size = ReadSize()
    size.arrived()

    assert size.bound(10_000) == 10_000
