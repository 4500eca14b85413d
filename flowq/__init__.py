"""Typed pipelines of several stages over Redis Streams."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowq.delivery.policy import Rate, Retry
from flowq.errors import FlowqError, PipelineError, QueueFull, Reject, RetryLater
from flowq.graph.context import Context
from flowq.graph.flow import Flow
from flowq.graph.pipeline import Pipeline
from flowq.graph.resource import Resource, resource, use
from flowq.graph.stage import Source, Stage, source, stage

if TYPE_CHECKING:
    from flowq.publisher import Publisher, SyncPublisher
    from flowq.runtime.runner import run

__version__ = "0.1.0"

__all__ = [
    "Context",
    "Flow",
    "FlowqError",
    "Pipeline",
    "PipelineError",
    "Publisher",
    "QueueFull",
    "Rate",
    "Reject",
    "Resource",
    "Retry",
    "RetryLater",
    "Source",
    "Stage",
    "SyncPublisher",
    "__version__",
    "resource",
    "run",
    "source",
    "stage",
    "use",
]

# These reach Redis, whose client takes longer to import than all the rest.
_IMPORTED_ON_USE = {
    "Publisher": "flowq.publisher",
    "SyncPublisher": "flowq.publisher",
    "run": "flowq.runtime.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_ON_USE[name]), name)
