"""How deduplicated values with two places are counted, with a limit to what is remembered."""

from __future__ import annotations

import hashlib

from flowq.broker.inspection.merging.split_values import Sample, SplitValues, split_values_findings

N_HASH_BYTES = 10


def stored(n: int, cell: int) -> bytes:
    return hashlib.blake2b(b"%d" % n, digest_size=N_HASH_BYTES).digest() + cell.to_bytes(2)


def test_a_value_with_two_places_is_counted_once_and_one_that_is_read_twice_is_none() -> None:
    sample = Sample(N_HASH_BYTES)
    for n, cell in ((1, 7), (2, 7), (2, 8), (2, 9), (1, 7), (3, 8)):
        sample.add(stored(n, cell))

    assert (sample.n_values, sample.n_split) == (3, 1)


def test_of_many_values_a_part_is_compared_that_is_the_same_in_all_shards() -> None:
    sample = Sample(N_HASH_BYTES, most=100)
    for cell in (1, 2):
        for n in range(1000):
            sample.add(stored(n, cell))

    assert 20 < sample.n_values <= 100
    assert sample.n_split == sample.n_values


def test_as_many_as_chance_explains_are_no_finding() -> None:
    sample = Sample(1)  # byte: of a hundred values, twenty pairs have the same one
    for n in range(100):
        sample.add(bytes([n, 0, 1]))
    for n in range(5):
        sample.add(bytes([n, 0, 2]))

    assert (sample.n_values, sample.n_split) == (100, 0)


def test_a_finding_names_the_stage_and_the_remedy() -> None:
    (problem,) = split_values_findings([SplitValues("fetch", 2000, 3), SplitValues("parse", 2000, 0)])

    assert problem.code == "FQ438"
    assert "3 of 2,000 values that fetch deduplicates have two places" in problem.text
    assert "by= of its rate" in problem.hint
