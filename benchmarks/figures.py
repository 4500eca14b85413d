"""What a workload measures, and how its repetitions become figures with goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Measured = Mapping[str, float]
"""The values of one repetition, by names such as "flowq rate"."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for the value itself, or for its ratio to another value of the same repetition.

    >>> Goal(at_least=7, times="loop rate").text("/s"), Goal(at_most=55).text("MiB")
    ('>= 7 x loop rate', '<= 55 MiB')
    """

    at_least: float | None = None
    at_most: float | None = None
    times: str = ""

    def is_met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def text(self, unit: str) -> str:
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {bound:,g} x {self.times}" if self.times else f"{sign} {bound:,g} {unit}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report: a value by its name, and the values it is compared with."""

    title: str
    key: str
    unit: str
    against: Sequence[str] = ()
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to measure. `measure` runs every variant once, one after another, and is called once per repetition.

    Its argument scales the work: published figures are for 1.
    """

    name: str
    title: str
    measure: Callable[[float], Measured]
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Result:
    """A figure over all repetitions: the values, and the medians of the ratios."""

    workload: str
    figure: Figure
    values: Sequence[float]
    ratios: Mapping[str, float]

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        goal = self.figure.goal
        if goal is None:
            return None
        return goal.is_met(self.ratios[goal.times] if goal.times else self.value)


def results_of(workload: Workload, repetitions: Sequence[Measured]) -> list[Result]:
    """Compute ratios within each repetition, so that a machine that slows down in between cancels out."""
    return [
        Result(
            workload.name,
            figure,
            [repetition[figure.key] for repetition in repetitions],
            {
                other: median(repetition[figure.key] / repetition[other] for repetition in repetitions)
                for other in dict.fromkeys((*figure.against, *_compared_with(figure)))
            },
        )
        for figure in workload.figures
    ]


def _compared_with(figure: Figure) -> Sequence[str]:
    return (figure.goal.times,) if figure.goal and figure.goal.times else ()
