"""Typed pipelines of several stages over Redis Streams. What users import from here is public."""

from __future__ import annotations

from importlib import import_module

from flowq.version import __version__

TYPE_CHECKING = False  # as type checkers know it; importing typing would take longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from flowq.dashboard.mounting import dashboard_app
    from flowq.delivery.policy import Dedup, Rate, Retry
    from flowq.errors import BatchFailed, FlowqError, PipelineError, QueueFull, Reject, RetryLater
    from flowq.graph.declaration.context import Context
    from flowq.graph.declaration.flow import Flow
    from flowq.graph.declaration.resource import Resource, resource, use
    from flowq.graph.declaration.source_context import SourceContext
    from flowq.graph.declaration.stage import Source, Stage, source, stage
    from flowq.graph.pipeline import Pipeline
    from flowq.inspector import Inspector
    from flowq.publisher import Publisher
    from flowq.runtime.handlers.retry_after import retry_after
    from flowq.runtime.process.in_process import run
    from flowq.sync_publisher import SyncPublisher

__all__ = [
    "BatchFailed",
    "Context",
    "Dedup",
    "Flow",
    "FlowqError",
    "Inspector",
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
    "SourceContext",
    "Stage",
    "SyncPublisher",
    "__version__",
    "dashboard_app",
    "resource",
    "retry_after",
    "run",
    "source",
    "stage",
    "use",
]

# Imported on first use: `flowq --help` needs no pydantic, and a pipeline that is only drawn no Redis client.
_HOME_OF = {
    name: module
    for module, names in {
        "flowq.dashboard.mounting": ("dashboard_app",),
        "flowq.delivery.policy": ("Dedup", "Rate", "Retry"),
        "flowq.errors": ("BatchFailed", "FlowqError", "PipelineError", "QueueFull", "Reject", "RetryLater"),
        "flowq.graph.declaration.context": ("Context",),
        "flowq.graph.declaration.flow": ("Flow",),
        "flowq.graph.pipeline": ("Pipeline",),
        "flowq.graph.declaration.resource": ("Resource", "resource", "use"),
        "flowq.graph.declaration.source_context": ("SourceContext",),
        "flowq.graph.declaration.stage": ("Source", "Stage", "source", "stage"),
        "flowq.inspector": ("Inspector",),
        "flowq.publisher": ("Publisher",),
        "flowq.runtime.process.in_process": ("run",),
        "flowq.runtime.handlers.retry_after": ("retry_after",),
        "flowq.sync_publisher": ("SyncPublisher",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
