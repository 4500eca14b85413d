"""Serves /metrics, /healthz and /readyz over HTTP, from a thread beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app  # pyright: ignore[reportUnknownVariableType]
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flowq.errors import UsageError
from flowq.monitoring.address import Address
from flowq.monitoring.exposition import families
from flowq.monitoring.reading import Reading
from flowq.monitoring.worker_health import Verdict
from flowq.printable import json_text

T = TypeVar("T")
_ANSWER_SECONDS = 5.0
_LONGEST_REQUEST_SECONDS = 10.0


class Watched(Protocol):
    """What is served. `read` returns the pipelines that were reached, and the names of the others."""

    async def read(self) -> tuple[Sequence[Reading], Sequence[str]]: ...

    async def alive(self) -> Verdict: ...

    async def ready(self) -> Verdict: ...


def _on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop, from a thread of the server. Raises TimeoutError if the loop is stuck."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result(_ANSWER_SECONDS)
    except TimeoutError:
        future.cancel()
        raise


class _Collector(Collector):
    """Reads Redis when Prometheus asks, and only then."""

    def __init__(self, watched: Watched, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = watched
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        readings, unreachable = _on_loop(self._loop, self._watched.read())
        return families(readings, unreachable)


class _App:
    """The WSGI application."""

    def __init__(self, watched: Watched, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        registry = CollectorRegistry()
        registry.register(_Collector(watched, loop))
        self._metrics: Any = make_wsgi_app(registry)
        self._verdicts: Mapping[str, Callable[[], Coroutine[Any, Any, Verdict]]] = {
            "/healthz": watched.alive,
            "/readyz": watched.ready,
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        try:
            if path == "/metrics":
                return self._metrics(environ, start_response)  # type: ignore[no-any-return]
            if path in self._verdicts:
                verdict = _on_loop(self._loop, self._verdicts[path]())
                return _json(start_response, "200 OK" if verdict.is_good else "503 Service Unavailable", verdict.about)
        except TimeoutError:
            about = {"status": "stuck", "faults": [f"no answer within {_ANSWER_SECONDS:g} s"]}
            return _json(start_response, "503 Service Unavailable", about)
        known = {"paths": ["/metrics", *self._verdicts]}
        return _json(start_response, "200 OK" if path == "/" else "404 Not Found", known)


def _json(start_response: Any, status: str, about: Mapping[str, Any]) -> list[bytes]:
    body = json_text(about).encode() + b"\n"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class _Handler(WSGIRequestHandler):
    """Logs no requests, and limits how long one may take."""

    timeout = _LONGEST_REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: there is a probe every few seconds."""


@contextlib.asynccontextmanager
async def serving(address: Address, watched: Watched, *, flag: str = "--metrics") -> AsyncGenerator[Address]:
    """Serve during a `with`. Yields the address, with the actual port. Raises UsageError."""
    server = _bound(address, _App(watched, asyncio.get_running_loop()), flag)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="flowq-metrics", daemon=True)
    thread.start()
    try:
        yield Address(address.host, server.server_port)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def _bound(address: Address, app: _App, flag: str) -> WSGIServer:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        kind = type("Server", (ThreadingWSGIServer,), {"address_family": family})
        return make_server(address.host, address.port, app, server_class=kind, handler_class=_Handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"cannot be bound: {error.strerror or error}"
        hint = f"another process uses it; choose another:  {flag} :{address.port + 1}" if taken else f"{flag} :9100"
        raise UsageError(f"{flag} {address.host}:{address.port} {why}", hint=hint) from None
