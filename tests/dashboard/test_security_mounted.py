"""The web page inside another program: its login guards every route, and all links stay under its prefix."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.dashboard.event_stream import events_in
from tests.dashboard.pipelines import LAB
from tests.integration.flowq_process import wait_until
from tests.integration.project import clean_environ
from tests.redis_server import RedisServer

HOST = """
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from flowq import dashboard_app
from pipelines.lab import lab

app = FastAPI()
asked = []

def user(request: Request) -> str | RedirectResponse | None:
    asked.append(request.url.path)
    who = request.cookies.get("session")
    if who == "guest":
        return None
    return who or RedirectResponse("/login", 303)

@app.get("/asked")
def what_was_asked() -> list[str]:
    return asked

app.mount("/ops/flowq", dashboard_app(lab, auth=user))
"""
PREFIX = "/ops/flowq"
ROUTES = ["/", "/p/lab", "/p/lab/s/fetch", "/p/lab/dead", "/p/lab/trace", "/p/lab/workers", "/p/lab/events"]
ROUTES += ["/p/lab/at?t=0", "/p/lab.json", "/static/flowq.css", "/nothing", "/p/nothing", "/static/nothing"]
ANN = {"cookie": "session=ann"}


class Answered:
    """An answer, read unless it is a stream."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        is_stream = "event-stream" in (response.headers["content-type"] or "")
        self.first = next(events_in(response)) if is_stream else None
        self.text = "" if is_stream else response.read().decode()


class Host:
    """A FastAPI application with the web page in it, under uvicorn."""

    def __init__(self, folder: Path, redis: str) -> None:
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / "lab.py").write_text(LAB)
        (folder / "host.py").write_text(HOST)
        self.log = folder / "log"
        environ = clean_environ() | {"FLOWQ_REDIS_URL": redis, "PYTHONPATH": str(folder)}
        command = [sys.executable, "-m", "uvicorn", "host:app", "--port", "0", "--app-dir", str(folder)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)

    @property
    def address(self) -> str:
        found = re.search(r"running on http://(\S+)", self.log.read_text())
        assert found, self.log.read_text()
        return found[1]

    def get(self, path: str, headers: dict[str, str] = ANN, method: str = "GET") -> Answered:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            with connection.getresponse() as response:
                return Answered(response)
        finally:
            connection.close()


@contextmanager
def running_host() -> Iterator[Host]:
    with RedisServer("debian") as redis, tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder), redis.url)
        try:
            wait_until(lambda: "running on" in host.log.read_text() or host.process.poll() is not None)
            yield host
        finally:
            host.process.kill()
            host.process.wait()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One for all tests, as its users share it."""
    with running_host() as host:
        yield host


@pytest.mark.parametrize("path", ROUTES)
def test_the_login_of_the_host_guards_every_route(host: Host, path: str) -> None:
    known, guest, stranger = (host.get(PREFIX + path, {"cookie": f"session={who}"}) for who in ("ann", "guest", ""))

    assert known.status in ((404,) if "nothing" in path else (200, 204))
    assert (guest.status, guest.text) == (403, "You may not see this page.\n")
    assert (stranger.status, stranger.headers["location"]) == (303, "/login")
    assert host.get("/asked").text.count(f'"{PREFIX}{path.partition("?")[0]}"') >= 3


@pytest.mark.parametrize("path", ["/p/lab%2Fevents", "//p/lab", "/P/LAB", "/static/%2e%2e/app.py", "/p/lab/..;/x"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_of_a_path_bypasses_it(host: Host, method: str, path: str) -> None:
    assert host.get(PREFIX + path, {"cookie": "session=guest"}, method).status == 403


def test_the_stream_is_live_for_users_of_the_host(host: Host) -> None:
    first = host.get(f"{PREFIX}/p/lab/events").first

    assert first
    assert first.data["set"]["p.state"]


@pytest.mark.parametrize("path", ["/", "/p/lab", "/p/lab/s/fetch", "/p/lab/dead", "/p/lab/workers", "/x"])
def test_all_links_stay_under_the_prefix(host: Host, path: str) -> None:
    links = Links()
    links.feed(host.get(PREFIX + path).text)

    assert links.found
    assert [link for link in links.found if not link.startswith(f"{PREFIX}/")] == []
    for link in links.found:
        if not link.endswith("/events"):
            assert host.get(link).status in (200, 204, 400), link


class Links(HTMLParser):
    """What a page leads to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action", "data-feed", "data-at") and value and value[0] not in "#?":
                self.found.append(value.partition("#")[0])


def test_a_host_that_stops_does_not_wait_for_open_pages() -> None:
    with running_host() as host:
        connection = http.client.HTTPConnection(host.address, timeout=60)
        connection.request("GET", f"{PREFIX}/p/lab/events", headers=ANN)
        with connection.getresponse() as response:
            events = events_in(response)
            next(events)
            os.kill(host.process.pid, signal.SIGTERM)

            list(events)

        connection.close()
        assert host.process.wait(60) in (0, -signal.SIGTERM)
        assert "Traceback" not in host.log.read_text()
