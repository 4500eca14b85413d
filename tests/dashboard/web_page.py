"""A `flowq dashboard` that runs as a user starts it, with a Redis of its own, and plain HTTP requests to it."""

from __future__ import annotations

import http.client
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.integration.flowq_process import LONGEST_SECONDS, FlowqProcess
from tests.integration.project import Project
from tests.ports import free_port
from tests.redis_server import Kind, RedisServer

_AT = re.compile(r" at (http://\S+)")


@dataclass(frozen=True)
class Answer:
    """An answer of the server, redirects not followed."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class WebPage:
    """A project with its Redis and its web page, from `with` to the end of it.

    `options` are those of `flowq dashboard`. `project.ok("push", ...)` and the like use the same Redis.
    """

    def __init__(self, pipelines: Mapping[str, str], *options: str, kind: Kind = "debian", **variables: str) -> None:
        self._pipelines, self._options, self._variables = pipelines, options, variables
        self._stack = ExitStack()
        self.redis = RedisServer(kind)
        self.project: Project
        self.process: FlowqProcess

    def __enter__(self) -> Self:
        with self._stack:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flowq-page-")))
            self._stack.enter_context(self.redis)
            variables = {"FLOWQ_REDIS_URL": self.redis.url, **self._variables}
            self.project = self._stack.enter_context(Project(folder, **variables))
            for name, text in self._pipelines.items():
                self.project.write(name, text)
            self.start()
            self._stack = self._stack.pop_all()
        return self

    def start(self, *more: str, listen: str = "", **variables: str) -> None:
        """Start the server, with more options, and wait until it serves."""
        listen = listen or str(free_port())
        self.process = self.project.start("dashboard", "--listen", listen, *self._options, *more, **variables)
        self.process.wait_for(lambda: _AT.search(self.process.stderr))

    def restart(self, *more: str, listen: str = "", **variables: str) -> None:
        """Stop the server, and start it again with other options."""
        self.process.popen.terminate()
        self.process.wait()
        self.start(*more, listen=listen, **variables)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where it serves, such as http://127.0.0.1:41234."""
        found = _AT.search(self.process.stderr)
        assert found, self.process.stderr
        return found[1]

    @property
    def address(self) -> str:
        """The same without the scheme: what a browser sends as Host."""
        return urlsplit(self.url).netloc

    def get(self, path: str, **headers: str) -> Answer:
        """One GET. In names of headers, _ stands for -."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """One POST of JSON."""
        return self.request("POST", path, json.dumps(body).encode(), {"content-type": "application/json", **headers})

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, with the path exactly as given."""
        with self.open(method, path, body, headers) as response:
            return Answer(response.status, response.headers, response.read().decode())

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """One request whose answer is read by the caller, as that of a stream."""
        connection = http.client.HTTPConnection(self.address, timeout=LONGEST_SECONDS)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            sent = {"host": self.address, **{name.replace("_", "-"): value for name, value in (headers or {}).items()}}
            if body is not None:
                sent.setdefault("content-length", str(len(body)))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()
