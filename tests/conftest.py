"""Fixtures for every test: real Redis servers, clean databases, unique names."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from tests.integration.project import Project
from tests.redis_server import KINDS, Kind, RedisServer

pytest_plugins = ["tests.body_stores"]
# A busy machine is no failure.
settings.register_profile("flowq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flowq")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job that a shell has put into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else every command under test would ignore Ctrl-C

Servers = Callable[[Kind], RedisServer]
THREAD_END_SECONDS = 60.0


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A worker that a test leaves behind would renew its lease for ever, and disturb those that count commands."""
    yield
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("flowq-")]
    for thread in threads:
        thread.join(THREAD_END_SECONDS)  # those of a pool that was shut down have been told, and are on their way out
    left = [thread.name for thread in threads if thread.is_alive()]
    assert not left, f"still running: {', '.join(left)}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Servers]:
    """Give the shared server of a kind, started when first asked for. A test that harms it makes its own."""
    with ExitStack() as servers:

        @cache
        def shared(kind: Kind) -> RedisServer:
            return servers.enter_context(RedisServer(kind))

        yield shared


@pytest.fixture(params=KINDS)
def redis_url(request: pytest.FixtureRequest, redis_server: Servers) -> str:
    """The url of an empty database; the test runs once on each kind of server."""
    server = redis_server(request.param)
    server.flush()
    return server.url


@pytest.fixture
def unique_namespace() -> str:
    """A name no other test has: for pipelines and key prefixes on a shared server."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def project(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Servers, unique_namespace: str
) -> Iterator[Project]:
    """A folder with the pipelines and variables of the marker `project(pipelines, redis=kind, **variables)`, if any.

    `redis` is the kind of a shared server; without it, commands use the Redis that flowq starts for a folder.
    """
    marker = request.node.get_closest_marker("project") or pytest.mark.project({}).mark
    (pipelines,), variables = marker.args, dict(marker.kwargs)
    if kind := variables.pop("redis", None):
        variables = {"FLOWQ_REDIS_URL": redis_server(kind).url, "FLOWQ_NAMESPACE": unique_namespace, **variables}
    with Project(tmp_path, **variables) as project:
        for name, text in pipelines.items():
            project.write(name, text)
        yield project
