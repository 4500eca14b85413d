"""The test kit of users, as the tests of the runtime use it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from flowq.broker.redis_streams import Broker
from flowq.testing import Call, Harness

T = TypeVar("T")

Kit = Callable[..., Harness]
"""As `flowq.testing.harness`, with the server already chosen."""


def seconds_between(calls: Sequence[Call]) -> list[float]:
    """From each call of a handler to the next."""
    return [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(calls)]


def look(h: Harness, reading: Callable[[Broker], Coroutine[Any, Any, T]]) -> T:
    """Read what the views of a harness do not show, while its clock stands still."""
    return h._simulated.around.look(reading)
