"""OpenTelemetry traces: a span for each handler call, and one trace for everything that one message leads to."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace import TracerProvider as AnyProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flowq.delivery.message import Delivery, traceparent_of, with_traceparent
from flowq.delivery.settlement import Outcome, Output, Succeeded
from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.handlers.observation import Observer

_LAST_EXPORT_SECONDS = 2.0
_PROPAGATOR = TraceContextTextMapPropagator()
_NOWHERE = Context()


class Tracing(Observer):
    """Observes handlers with spans named by the conventions for messaging.

    Each is a child of the span whose handler sent the message, in whichever process that was. A batch is a child of
    the sender of its first message.
    """

    def __init__(self, pipeline: str, provider: AnyProvider | None = None) -> None:
        self._pipeline = pipeline
        self._tracer = trace.get_tracer("flowq", tracer_provider=provider)

    @contextlib.contextmanager
    def handling(self, stage: StagePlan, delivery: Delivery, n_messages: int) -> Generator[Callable[[Outcome], None]]:
        """As in `Observer`, with a span around it."""
        with self._tracer.start_as_current_span(
            f"process {stage.name}",
            context=_context_of(delivery),
            kind=SpanKind.CONSUMER,
            attributes=self._attributes(stage, delivery, n_messages),
        ) as span:
            yield lambda outcome: _end(span, outcome)

    def _attributes(self, stage: StagePlan, delivery: Delivery, n_messages: int) -> Mapping[str, str | int]:
        attributes: dict[str, str | int] = {
            "messaging.system": "flowq",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": stage.name,
            "messaging.client.id": delivery.worker,
            "flowq.pipeline": self._pipeline,
            "flowq.edge": delivery.edge,
        }
        if n_messages > 1:
            return {**attributes, "messaging.batch.message_count": n_messages}
        return {**attributes, "messaging.message.id": delivery.message_id, "flowq.attempt": delivery.header.attempt}

    def stamped(self, outputs: Sequence[Output], delivery: Delivery) -> Sequence[Output]:
        """The outputs, each a child of the current span, or of the span that sent its input."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        traceparent = carrier.get("traceparent") or traceparent_of(delivery.header_bytes)
        if traceparent is None:
            return outputs
        return [output._replace(header=with_traceparent(output.header, traceparent)) for output in outputs]


def _context_of(delivery: Delivery) -> Context:
    """The sender's, never the surrounding one: a slot handles messages of many traces."""
    traceparent = traceparent_of(delivery.header_bytes)
    return _NOWHERE if traceparent is None else _PROPAGATOR.extract({"traceparent": traceparent}, _NOWHERE)


def _end(span: Span, outcome: Outcome) -> None:
    kind = type(outcome).__name__.lower()
    span.set_attribute("flowq.outcome", kind)
    if isinstance(outcome, Succeeded):
        span.set_attribute("flowq.outputs", len(outcome.outputs))
        return
    error = getattr(outcome, "error", None)
    span.set_attribute("error.type", type(error).__qualname__ if error is not None else kind)
    span.set_status(Status(StatusCode.ERROR, str(error or kind)))
    if error is not None:
        span.record_exception(error)


def start_tracing(service: str) -> TracerProvider:
    """Set this process up to export spans as the OTEL_* variables say, by default with OTLP over HTTP."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    kinds = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    # What the environment says about the service overrides our name.
    resource = Resource.create({"service.name": service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    exporter: SpanExporter
    if "console" in kinds:
        exporter = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # spans that handlers open themselves become children of ours
    return provider


def finish_tracing(provider: TracerProvider) -> None:
    """Send what has not been sent, without waiting long for a collector that does not reply.

    The SDK itself retries for ten seconds, whatever timeout it gets.
    """
    sending = threading.Thread(target=provider.force_flush, name="flowq-traces", daemon=True)
    sending.start()
    sending.join(_LAST_EXPORT_SECONDS)
