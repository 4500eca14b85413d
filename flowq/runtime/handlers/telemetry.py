"""Chooses what a process reports about its handlers: nothing, or traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flowq.errors import UsageError

if TYPE_CHECKING:
    from flowq.runtime.handlers.observation import Observer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Telemetry:
    """The `observer` of one process, or None. `finish` sends what has not been sent before the process ends."""

    def __init__(self, pipeline: str, *, traces: bool) -> None:
        self.observer: Observer | None = None
        self.finish: Callable[[], None] = lambda: None
        if traces:
            from flowq.runtime.handlers.tracing import Tracing, finish_tracing, start_tracing

            provider = start_tracing(pipeline)
            self.observer = Tracing(pipeline)
            self.finish = partial(finish_tracing, provider)


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether the environment switches traces on: by an exporter, or by an endpoint to export to.

    >>> wants_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}), wants_traces({})
    (True, False)
    >>> wants_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"})
    False
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return exporter != "none"
    return any(environ.get(name) for name in _ENDPOINTS)


def require_opentelemetry() -> None:
    """Raise UsageError where the extra is not installed."""
    for module in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise UsageError("traces need OpenTelemetry", hint='pip install "flowq-streams[otel]"')
