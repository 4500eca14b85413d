"""A pipeline: flows under one name, compiled when it is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from flowq.graph.compilation.compiler import compile_pipeline
from flowq.graph.compilation.tuning import laid_over
from flowq.graph.declaration.definition import place_at
from flowq.graph.declaration.flow import Target


class Pipeline:
    """A named set of flows that run together.

    `name` may contain letters, digits and underscores; it is part of the Redis keys, and what commands take. It must be
    unique in a project, and need not be the name of its file. `flows` are what `>>` returns, or single stages and
    sources. A stage used in several places is one and the same stage; a stage that leads back to itself makes a cycle.
    `shards`, from 1 to 64, divides the pipeline over the nodes of a Redis Cluster, or over several servers. It can be
    set elsewhere, and changed later, but only with `flowq apply`: the number that is in force is on record in Redis.

    Raises PipelineError with every problem found: names, options, annotations, and types that do not match.

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

    def __init__(self, name: str, *flows: Target[Any], shards: int = 1) -> None:
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        self.name = name
        self.place = place_at(caller.f_code.co_filename, caller.f_lineno)
        self.plan = compile_pipeline(name, flows, self.place, shards=shards)
        self._flows = flows

    def tuned(self, options: Mapping[str, Mapping[str, Any]], *, shards: int | None = None) -> Pipeline:
        """A copy of this pipeline with other options for some of its stages, as if they were written in the code.

        `options` maps names of stages to options of `@stage` as plain data: `retry` and `rate` are mappings, whose
        missing members stay as in the code. Options that change what the code means cannot be set: `dedup`, `ack`, and
        where a handler runs. `shards` is another number of shards; None keeps it. The command line does this with the
        settings in pyproject.toml, in environment variables and in `--set`.

        Raises PipelineError with every problem found.

        >>> from flowq import stage
        >>> @stage(concurrency=8)
        ... def show(number: int) -> None: ...
        >>> tuned = Pipeline("numbers", show).tuned({"show": {"timeout": "5m", "retry": {"attempts": 8}}})
        >>> plan = tuned.plan.stage("show")
        >>> plan.concurrency, plan.timeout_seconds, plan.retry.attempts
        (8, 300.0, 8)
        """
        tuned, tuning = copy(self), laid_over(self.plan.tuning, options)
        n_shards = self.plan.shards if shards is None else shards
        tuned.plan = compile_pipeline(self.name, self._flows, self.place, tuning, shards=n_shards)
        return tuned

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {', '.join(stage.name for stage in self.plan.stages)}>"


def pipelines_among(values: Iterable[Any]) -> Iterator[Pipeline]:
    """The pipelines among the values of a module, also those in its lists, tuples and dictionaries.

    None of the user's code runs: `isinstance` would ask each value for its class, and Django's settings, for one, may
    fail then.
    """
    for value in tuple(values):
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        inner = tuple(value.values()) if kind is dict else tuple(value) if kind in (list, tuple) else (value,)
        yield from (one for one in inner if issubclass(type(one), Pipeline))
