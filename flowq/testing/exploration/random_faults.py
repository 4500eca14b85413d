"""Draws a list of faults for a plan: which ones, at which stages and points, how many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from random import Random

from flowq.graph.compilation.plan import Plan
from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    Fault,
    LostReply,
    Point,
    PoisonBody,
    Refuse,
    RefusedWith,
    Reorder,
    Restart,
    Slow,
    Stall,
)

SURVIVABLE: frozenset[type[Fault]] = frozenset(
    {Crash, Disconnect, Duplicate, LostReply, Refuse, Reorder, Restart, Slow, Stall}
)
"""The faults that change no result: every message is handled, once or more."""
ALL: frozenset[type[Fault]] = SURVIVABLE | {Failover, PoisonBody}
"""Every kind of fault. After a `Failover` input may be missing, and `PoisonBody` makes a dead letter."""

_MOST_CRASHES = 2  # three deaths make a message a dead letter, which is no bug
_CRASHES = 3  # as likely as three other kinds: effects that are not idempotent are what users get wrong most
_HOW_MANY = (0, 1, 1, 1, 2, 2, 3, 4)  # each as likely as the others
_CALLS = ("settle", "settle", "publish", "promote", "reclaim", "renew", "reserve")
_CALLS_OF_SHARDS = (*_CALLS, "apply", "apply", "apply", "settle_out", "publish_out", "wave")
_ANSWERS: tuple[RefusedWith, ...] = ("OOM", "OOM", "READONLY", "LOADING", "MISCONF")
_SECONDS = (0.5, 2, 10, 20, 60)  # some are longer than a lease of 15 seconds


def random_faults(plan: Plan, seed: int, kinds: Collection[type[Fault]] = SURVIVABLE) -> tuple[Fault, ...]:
    """The faults of a seed: none to four of these kinds, the same for the same plan, seed and kinds."""
    random = Random(f"faults {seed}")  # the text keeps it apart from the Random(seed) of the schedule
    stages = sorted(stage.name for stage in plan.consumers)
    named = {kind.__name__: kind for kind in kinds}
    drawn_from = sorted(name for name, kind in named.items() for _ in range(_CRASHES if kind is Crash else 1))
    faults: list[Fault] = []
    for _ in range(random.choice(_HOW_MANY) if drawn_from else 0):
        kind = named[random.choice(drawn_from)]
        fault = _DRAWING[kind](random, random.choice(stages))
        if isinstance(fault, Duplicate | LostReply) and plan.shards > 1:
            fault = replace(fault, call=random.choice(_CALLS_OF_SHARDS))
        if not isinstance(fault, Crash) or sum(isinstance(each, Crash) for each in faults) < _MOST_CRASHES:
            faults.append(fault)
    return tuple(faults)


def _nth(random: Random) -> int:
    """1 in every other case, and seldom more than 16."""
    return int(2.0 ** max(0.0, random.uniform(-4.0, 4.0)))


def _crash(random: Random, stage: str) -> Fault:
    point: Point = random.choice(("handler", "settle", "handler", "settle", "read"))
    if random.random() < 0.5:
        return Crash(stage, before=point, nth=_nth(random))
    return Crash(stage, after=point, nth=_nth(random))


_DRAWING: Mapping[type[Fault], Callable[[Random, str], Fault]] = {
    Crash: _crash,
    Disconnect: lambda random, stage: Disconnect(nth=_nth(random)),
    Duplicate: lambda random, stage: Duplicate(random.choice(_CALLS), nth=_nth(random)),
    Failover: lambda random, stage: Failover(forget=random.randint(1, 8), nth=_nth(random)),
    LostReply: lambda random, stage: LostReply(random.choice((*_CALLS, "read")), nth=_nth(random)),
    PoisonBody: lambda random, stage: PoisonBody(stage, nth=_nth(random)),
    Refuse: lambda random, stage: Refuse(random.choice(_ANSWERS), seconds=random.choice(_SECONDS), nth=_nth(random)),
    Reorder: lambda random, stage: Reorder(nth=_nth(random)),
    Restart: lambda random, stage: Restart(nth=_nth(random)),
    Slow: lambda random, stage: Slow(stage, random.choice(_SECONDS), nth=_nth(random)),
    Stall: lambda random, stage: Stall(random.choice(_SECONDS), nth=_nth(random)),
}
