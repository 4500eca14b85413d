"""The recent past of numbers, for the lines on a page: the mean of each step of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence


class RecentMeans:
    """The means of some numbers in each of the last `kept` steps of `step_ms`; None where nothing was seen."""

    def __init__(self, *, step_ms: int, kept: int) -> None:
        self._step_ms, self._kept = step_ms, kept
        self._step = 0
        self._seen: dict[str, list[float]] = {}
        self._means: dict[str, deque[float | None]] = {}

    def add(self, at_ms: int, values: Mapping[str, float]) -> Mapping[str, Sequence[float | None]]:
        """The means with these values, by name; at the end of each is the step that is under way."""
        step = at_ms // self._step_ms
        if step != self._step:
            self._begin(step)
        for name, value in values.items():
            self._seen.setdefault(name, []).append(value)
        return {name: [*self._means.get(name, ()), _mean(seen)][-self._kept :] for name, seen in self._seen.items()}

    def _begin(self, step: int) -> None:
        n_unseen = min(max(0, step - self._step - 1), self._kept)
        for name, seen in self._seen.items():
            means = self._means.setdefault(name, deque(maxlen=self._kept))
            means.append(_mean(seen))
            means.extend([None] * n_unseen)
        self._seen = {}
        self._step = step


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
