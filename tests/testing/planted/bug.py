"""A bug planted in a pipeline: what the tests know about each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flowq
from flowq.testing.pipeline_harness import Harness


@dataclass(frozen=True)
class Bug:
    """A pipeline with a bug, its twin without it, and how both are tested."""

    pipeline: flowq.Pipeline
    twin: flowq.Pipeline
    build: Callable[[Harness, int], Awaitable[None]]
    resources: Callable[[], Mapping[Any, Any]]
    size: int = 6
