"""The test kit of users, as the tests of the runtime use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from flowq.testing import Call, Harness

Kit = Callable[..., Harness]
"""As `flowq.testing.harness`, with the server already chosen."""


def seconds_between(calls: Sequence[Call]) -> list[float]:
    """From each call of a handler to the next."""
    return [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(calls)]
