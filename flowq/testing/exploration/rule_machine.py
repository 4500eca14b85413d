"""A state machine of hypothesis for a pipeline: random messages, faults and pauses, and what must hold after each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.resource import Resource
from flowq.graph.pipeline import Pipeline
from flowq.testing import strategies
from flowq.testing.exploration.random_faults import SURVIVABLE
from flowq.testing.faults import Failover, Fault
from flowq.testing.generation.fault_strategies import faults_at
from flowq.testing.pipeline_harness import Harness, harness
from flowq.testing.verdicts import InvariantBroken

# `strategies` has said how to install it, if it is missing
from hypothesis import settings, strategies as st  # isort: skip
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule  # isort: skip

T = TypeVar("T")

Fields = Mapping[str, Mapping[str, st.SearchStrategy[Any]]]
Fakes = Mapping[Resource[Any], Any]
Messages = st.SearchStrategy[Any]

_MOST_FED = 3
_MOST_STEPS = 20
_PAUSES_SECONDS = (1, 30, 3600, 86_400)
_SETTINGS = settings(max_examples=20, stateful_step_count=12, deadline=None)


class PipelineMachine(RuleBasedStateMachine):
    """A pipeline in a harness, driven by rules. Made by `machine`; derive from what that returns to add rules.

    `h` is the harness of the current example, `fed` what it was fed: stages and messages. Rules are not coroutines:
    `self.run(self.h.feed(...))` runs one in the loop of the machine.
    """

    pipeline: Pipeline
    options: Mapping[str, Any]
    fakes: Callable[[], Fakes]

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[tuple[str, Any]] = []
        self._runner = asyncio.Runner()
        self._harness: Harness | None = None

    @property
    def h(self) -> Harness:
        """The harness."""
        assert self._harness is not None, "rules run after `start`"
        return self._harness

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of a rule."""
        return self._runner.run(work)

    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        """Start the workers; the seed decides the schedule."""
        self._harness = harness(self.pipeline, seed=seed, resources=self.fakes(), **self.options)
        self.run(self._harness.__aenter__())

    @rule(seconds=st.sampled_from(_PAUSES_SECONDS))
    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.run(self.h.advance(seconds=seconds))

    @precondition(lambda self: self.h.waiting())
    @rule(n=st.integers(1, _MOST_STEPS))
    def step(self, n: int) -> None:
        """Let some calls to Redis happen, so that the next rule comes in the middle of something."""
        self.run(self._steps(n))

    async def _steps(self, n: int) -> None:
        for _ in range(n):
            if not self.h.waiting():
                break
            await self.h.step()

    @rule()
    def drain(self) -> None:
        """Let everything be handled. Nothing may be unaccounted for."""
        self.run(self.h.drain())
        balance = self.h.balance()
        if not balance or self.h.waiting():
            raise InvariantBroken(f"after a drain the balance does not add up: {balance}")

    def teardown(self) -> None:
        """Drain and stop the workers, and check the invariants of every harness, unless a rule has failed."""
        error = sys.exception()  # with which hypothesis ends the example
        try:
            if self._harness is not None:
                self.run(self._harness.__aexit__(None if error is None else type(error), error, None))
        finally:
            self._runner.close()


def machine(
    pipeline: Pipeline,
    *,
    feed: Sequence[Any] = (),
    fields: Fields | None = None,
    faults: Collection[type[Fault]] = SURVIVABLE,
    resources: Fakes | Callable[[], Fakes] | None = None,
    **options: Any,
) -> type[PipelineMachine]:
    """A state machine of hypothesis that tries to break a pipeline, and finds the shortest way to do it.

    Its rules, in any order and number: feed messages made up from the types, let a fault happen, let time pass, let the
    workers take a few steps, let them finish. After each drain the balance must add up, and at the end the invariants
    of every harness must hold: nothing lost, nothing doubled, nothing left behind. Derive a class from it to add rules
    and invariants of your own, which know the pipeline: `self.h` is the harness.

    pipeline: the pipeline.
    feed: the stages to feed, or their names (those that no other stage feeds).
    fields: for stages, by name, strategies of single fields of their messages, as for `strategies.messages`.
    faults: the kinds of faults (those that change no result); none for no faults at all. Not Failover.
    resources: values for resources; a function that returns them makes new ones for each example.
    options: those of `harness`: `workers` (2), `lease`, `start`.

    Raises UsageError for a pipeline without a stage that can be fed, and for types of which no values can be made up.
    By default 20 examples of 12 steps are tried: set `TestCase.settings` for others.

    >>> from flowq import stage
    >>> @stage
    ... async def half(number: int) -> int | None:
    ...     return number // 2 if number % 2 == 0 else None
    >>> @stage
    ... async def show(number: int) -> None: ...
    >>> TestNumbers = machine(Pipeline("numbers", half >> show)).TestCase  # pytest and unittest run it
    >>> TestNumbers.settings = settings(TestNumbers.settings, max_examples=5)
    >>> TestNumbers("runTest").run().wasSuccessful()
    True
    """
    if Failover in faults:
        raise UsageError("a machine tries no Failover", hint="explore(build, faults=ALL) does")
    plan = pipeline.plan
    names = [str(getattr(stage, "name", stage)) for stage in feed] or _roots(plan)
    messages: dict[str, Messages] = {
        name: strategies.messages(name, pipeline=plan, fields=(fields or {}).get(name)) for name in names
    }
    namespace: dict[str, Any] = {
        "__doc__": f"Tries to break the pipeline {plan.name}.",
        "pipeline": pipeline,
        "options": {"workers": 2, **options},
        "fakes": staticmethod(resources if callable(resources) else lambda: resources or {}),
        "feed": _feeding(messages),
        "fault": _failing(plan, faults),
    }
    made: type[PipelineMachine] = type(f"{plan.name.title().replace('_', '')}Machine", (PipelineMachine,), namespace)
    made.TestCase.settings = _SETTINGS
    return made


def _roots(plan: Plan) -> list[str]:
    """The stages into which no other stage leads, or all if there are none."""
    sources = {source.name for source in plan.sources}
    fed = {edge.target for edge in plan.edges if edge.origin and edge.origin not in sources and not edge.feedback}
    return [stage.name for stage in plan.consumers if stage.name not in fed] or [s.name for s in plan.consumers]


def _feeding(messages: Mapping[str, Messages]) -> Any:
    to_stages = [
        st.tuples(st.just(name), st.lists(each, min_size=1, max_size=_MOST_FED)) for name, each in messages.items()
    ]

    def feed(self: PipelineMachine, messages: tuple[str, list[Any]]) -> None:
        stage, values = messages
        self.fed += [(stage, value) for value in values]
        self.run(self.h.feed(stage, *values))

    return rule(messages=st.one_of(to_stages))(feed)


def _failing(plan: Plan, kinds: Collection[type[Fault]]) -> Any:
    if not kinds:
        return None
    faults = faults_at([stage.name for stage in plan.consumers], kinds)

    def fault(self: PipelineMachine, fault: Fault) -> None:
        self.h.inject(fault)

    return rule(fault=faults)(fault)
