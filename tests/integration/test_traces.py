"""OpenTelemetry: one trace across stages and processes, received by a real OTLP endpoint."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from flowq.runtime.handlers.telemetry import wants_traces
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

PIPELINE = """
from __future__ import annotations
from flowq import Context, Pipeline, Reject, stage

@stage
async def split(number: int) -> list[int]:
    from opentelemetry import trace
    with trace.get_tracer("shop").start_as_current_span("own work"):
        return [number, number + 1]

@stage
def inspect(number: int, ctx: Context) -> int:
    if ctx.attempt == 1: raise ConnectionError("not yet")
    return number

@stage
async def store(number: int) -> None:
    if number == 2: raise Reject("two")

lab = Pipeline("lab", split >> inspect >> store)
"""


class Collector:
    """An OTLP receiver over HTTP: what it got, by the wire format's own definition."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, Any], Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for part in request.resource_spans:
            resource = {item.key: item.value.string_value for item in part.resource.attributes}
            self.received += [(resource, span) for scope in part.scope_spans for span in scope.spans]

    @property
    def spans(self) -> list[Span]:
        return [span for _, span in self.received]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


pytestmark = pytest.mark.project({"lab": PIPELINE})


def attributes(span: Span) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


def run_to_the_end(project: Project, collector: Collector) -> FlowqProcess:
    """`split` in one process, and what follows in another one after it."""
    project.ok("push", "lab.split", "1")
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    project.ok("run", "lab", "--stage", "split", "--limit", "split=1", **traced)
    return project.ok("run", "lab", "--exclude", "split", "--drain", "--max-dead", "1", **traced)


def test_one_message_is_one_trace_across_stages_and_processes(project: Project, collector: Collector) -> None:
    run_to_the_end(project, collector)

    spans = {span.span_id: span for span in collector.spans}
    # By hand: 1 split, its own work, 2 x 2 attempts to inspect, 2 to store.
    names = sorted(span.name for span in spans.values())
    assert names == ["own work", *["process inspect"] * 4, "process split", *["process store"] * 2]
    assert len({span.trace_id for span in spans.values()}) == 1
    parents = {(span.name, spans[span.parent_span_id].name) for span in spans.values() if span.parent_span_id}
    assert parents == {
        ("own work", "process split"),
        ("process inspect", "process split"),
        ("process store", "process inspect"),
    }
    assert len({attributes(span)["messaging.client.id"] for span in spans.values() if span.name != "own work"}) == 2
    assert {resource["service.name"] for resource, _ in collector.received} == {"lab"}


def test_a_span_says_what_was_handled_and_how_it_ended(project: Project, collector: Collector) -> None:
    run_to_the_end(project, collector)

    (failed,) = [span for span in collector.spans if span.name == "process store" and span.status.code]
    about = attributes(failed)
    assert failed.kind == Span.SPAN_KIND_CONSUMER
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert about["error.type"] == "Reject"
    assert about["messaging.operation.type"] == "process"
    assert about["messaging.destination.name"] == "store"
    assert about["flowq.edge"] == "inspect>store"
    assert about["messaging.message.id"]
    attempts = sorted(attributes(span)["flowq.attempt"] for span in collector.spans if span.name == "process inspect")
    assert attempts == [1, 1, 2, 2]


def test_without_variables_nothing_is_traced_and_no_tracing_imported(project: Project, collector: Collector) -> None:
    project.write(
        "plain",
        """
        from __future__ import annotations
        import sys
        from flowq import Pipeline, stage

        @stage
        async def look(number: int) -> None:
            print("flowq.runtime.handlers.tracing" in sys.modules)

        plain = Pipeline("plain", look)
        """,
    )
    project.ok("push", "plain.look", "1")
    done = project.ok("run", "plain", "--drain", "-q", OTEL_SERVICE_NAME="plain")
    assert done.stdout.splitlines()[0] == "False"


def test_a_collector_that_is_not_there_costs_no_message(project: Project) -> None:
    project.ok("push", "lab.split", "5")
    done = project.ok("run", "lab", "--otel", "--drain", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert "in 2 = ok 2" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on_and_off(environ: dict[str, str], *, wanted: bool) -> None:
    assert wants_traces(environ) is wanted
