"""Shrinks a failing case: fewer faults, fewer workers, less input, smaller numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from flowq.testing.exploration.case import Case
from flowq.testing.faults import Fault

_OTHER_SCHEDULES = 8
_ROUND_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


async def shrink(case: Case, fails: Callable[[Case], Awaitable[bool]], *, most_tries: int = 300) -> Case:
    """The simplest case found that fails as well.

    The first simpler case that still fails is taken and simplified further, until none fails or `most_tries` cases
    have been tried. No case is tried twice.
    """
    tried = {case}
    candidates = simpler_cases(case)
    while len(tried) <= most_tries and (simpler := next(candidates, None)) is not None:
        if simpler in tried:
            continue
        tried.add(simpler)
        if await fails(simpler):
            case, candidates = simpler, simpler_cases(simpler)
    return case


def simpler_cases(case: Case) -> Iterator[Case]:
    """Cases a step simpler than this one, the boldest steps first."""
    for faults in _shorter(case.faults):
        yield replace(case, faults=faults)
    for workers in range(1, case.workers):
        yield replace(case, workers=workers)
    for size in _smaller_counts(case.size or 0):
        yield replace(case, size=size)
    for place, fault in enumerate(case.faults):
        for simpler in _simpler_faults(fault):
            yield replace(case, faults=(*case.faults[:place], simpler, *case.faults[place + 1 :]))
    if len(case.faults) > 1:  # fewer of them may be enough under another schedule
        for seed in range(case.seed + 1, case.seed + 1 + _OTHER_SCHEDULES):
            for place in range(len(case.faults)):
                yield replace(case, seed=seed, faults=case.faults[:place] + case.faults[place + 1 :])


def _shorter(faults: tuple[Fault, ...]) -> Iterator[tuple[Fault, ...]]:
    """The list without any fault, without one half, one quarter and so on, and without each single fault."""
    length = len(faults)
    while length:
        for start in range(0, len(faults), length):
            yield faults[:start] + faults[start + length :]
        length //= 2


def _simpler_faults(fault: Any) -> Iterator[Fault]:
    for field in fields(fault):
        value = getattr(fault, field.name)
        if field.name == "seconds":
            smaller: Iterator[float] = (seconds for seconds in _ROUND_SECONDS if seconds < value)
        elif isinstance(value, int):
            smaller = _smaller_counts(value)
        else:
            continue
        for number in smaller:
            yield replace(fault, **{field.name: number})


def _smaller_counts(count: int) -> Iterator[int]:
    """1, 2, 3 and so on up to 8, then in ever longer steps."""
    smaller = 1
    while smaller < count:
        yield smaller
        smaller += max(1, smaller // 8)
