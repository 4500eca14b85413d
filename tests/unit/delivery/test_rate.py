"""What a rate may be, and which rate a key has."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Rate


def test_a_key_has_the_rate_that_is_named_for_it_and_every_other_key_the_common_one() -> None:
    slow = Rate(1, per=10, burst=2, concurrency=1)
    common = Rate(20, by="host", keys={"slow": slow})

    assert common.of("slow") is slow
    assert common.of("other") is common
    assert Rate(20).of("slow").interval_seconds == 0.05


def test_the_rates_of_keys_are_those_of_the_moment_of_writing() -> None:
    keys = {"slow": Rate(1)}
    rate = Rate(20, by="host", keys=keys)
    keys["slow"] = Rate(100)

    assert rate.of("slow") == Rate(1)
    assert hash(rate) == hash(Rate(20, by="host", keys={"slow": Rate(1)}))
    assert rate != Rate(20, by="host")


REFUSED = {
    "no start at all": ({"n": 0}, "n and per above 0"),
    "in no time": ({"n": 1, "per": 0}, "n and per above 0"),
    "no burst": ({"n": 1, "burst": 0}, "burst at least 1"),
    "no slot": ({"n": 1, "concurrency": 0}, "at least 1"),
    "keys of nothing": ({"n": 1, "keys": {"slow": Rate(1)}}, "needs by="),
    "a key with by": ({"n": 1, "by": "host", "keys": {"slow": Rate(1, by="host")}}, "no by, keys or adaptive"),
    "a key that adapts": ({"n": 1, "by": "host", "keys": {"slow": Rate(1, adaptive=True)}}, "no by, keys or adaptive"),
}


@pytest.mark.parametrize(("options", "remedy"), REFUSED.values(), ids=REFUSED)
def test_a_rate_that_means_nothing_is_refused_with_a_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Rate(**options)


@pytest.mark.parametrize("keys", [{"slow": 1}, {8080: Rate(1)}])
def test_what_is_no_rate_of_a_key_is_refused(keys: Any) -> None:
    with pytest.raises(TypeError, match=r"map text to Rate\(...\)"):
        Rate(1, by="host", keys=keys)
