"""What `flowq test` feeds to a pipeline: made from its types, read from a file, or emitted by its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.runtime.source_arguments import source_arguments
from flowq.testing.strategies import messages

_ANY = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]  # it may take long


@dataclass(frozen=True, slots=True)
class Feed:
    """Messages for stages, and arguments for sources that run, each by name."""

    messages: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def of_seed(self, stage: str, seed: int, size: int) -> Sequence[Any]:
        """So many of the messages for a stage: others for each seed, and always the same for one."""
        pool = self.messages[stage]
        start = seed * size % len(pool)
        return (*pool[start:], *pool[:start])[:size]


def made_from_types(plan: Plan, stages: Sequence[str], *, count: int) -> Feed:
    """Messages that the types of these stages allow, the same ones every time.

    Raises UsageError for types that cannot be made up.
    """
    return Feed({stage: _made(plan, stage, count) for stage in stages})


def emitted_by_sources(plan: Plan, arguments: Mapping[str, Any]) -> Feed:
    """What the sources emit that these arguments are for. Raises UsageError if none is, or one lacks an argument."""
    meant = [source for source in plan.sources if _takes(source.handler.call, arguments)]
    if not meant:
        names = ", ".join(source.name for source in plan.sources) or "it has none"
        raise UsageError(f"no source of {plan.name} takes {', '.join(arguments)}", hint=f"its sources: {names}")
    return Feed(sources={source.name: source_arguments(source, arguments) for source in meant})


def _takes(source: Any, arguments: Mapping[str, Any]) -> bool:
    from flowq.graph.declaration.definition import signature_of

    return bool(arguments.keys() & signature_of(source).parameters.keys())


def _made(plan: Plan, stage: str, count: int) -> list[Any]:
    made: list[Any] = []

    @seed(0)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=_ANY,
        verbosity=Verbosity.quiet,
    )
    @given(messages(stage, pipeline=plan))
    def make(message: Any) -> None:
        made.append(message)

    make()
    return made
