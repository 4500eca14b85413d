"""Bugs of many kinds that only show when something goes wrong, each in a small pipeline beside its twin without it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.testing.planted import (
    cache_in_the_worker,
    charged_twice,
    counter_in_the_worker,
    error_swallowed,
    key_made_anew,
    key_of_a_batch,
    lost_update,
    order_assumed,
    settled_before_its_effect,
    time_of_the_clock,
    timeout_too_short,
)
from tests.testing.planted.bug import Bug

_MODULES = (
    charged_twice,
    key_made_anew,
    key_of_a_batch,
    cache_in_the_worker,
    counter_in_the_worker,
    settled_before_its_effect,
    order_assumed,
    error_swallowed,
    time_of_the_clock,
    lost_update,
    timeout_too_short,
)
BUGS: Mapping[str, Bug] = {module.__name__.rpartition(".")[2]: module.BUG for module in _MODULES}
WHAT: Mapping[str, str] = {
    module.__name__.rpartition(".")[2]: (module.__doc__ or "").removeprefix("The bug: ").strip() for module in _MODULES
}
