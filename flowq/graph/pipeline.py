"""A pipeline: flows under one name, compiled when it is written."""

from __future__ import annotations

import sys
from typing import Any

from flowq.graph.compiler import compile_pipeline
from flowq.graph.definition import place_at
from flowq.graph.flow import Target


class Pipeline:
    """A named set of flows that run together.

    `name` may hold letters, digits and underscores; it is part of the Redis keys, and the name of the file
    that the command line looks for. `flows` are what `>>` returns, or single stages and sources. Naming a
    stage in several places means the same stage; a stage that is reached from itself makes a cycle.

    Raises PipelineError with every problem found: names, options, annotations, and types that do not fit.

    >>> from flowq import stage
    >>> @stage
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> @stage
    ... def show(number: int) -> None:
    ...     print(number)
    >>> pipeline = Pipeline("numbers", double >> show)
    >>> [edge.name for edge in pipeline.plan.edges]
    ['>double', '>show', 'double>show']
    """

    def __init__(self, name: str, *flows: Target[Any]) -> None:
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        self.name = name
        self.place = place_at(caller.f_code.co_filename, caller.f_lineno)
        self.plan = compile_pipeline(name, flows, self.place)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {', '.join(stage.name for stage in self.plan.stages)}>"
