"""Where pipelines run: a kit with a virtual clock on every kind of server, or a laboratory in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from flowq.testing import harness
from tests.conftest import Servers
from tests.faults.proxy import Proxy
from tests.redis_server import KINDS
from tests.runtime.kit import Kit
from tests.runtime.lab import Lab


@pytest.fixture
def url(redis_server: Servers) -> str:
    return redis_server("bundled").url


@pytest.fixture
async def lab(url: str, unique_namespace: str) -> AsyncIterator[Lab]:
    lab = Lab.at(url, unique_namespace)
    yield lab
    await lab.close()


@pytest.fixture(params=["memory", "bundled"])
async def any_lab(request: pytest.FixtureRequest, redis_server: Servers, unique_namespace: str) -> AsyncIterator[Lab]:
    lab = Lab.at(redis_server("bundled").url if request.param == "bundled" else "memory", unique_namespace)
    yield lab
    await lab.close()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    async with Proxy(url) as proxy:
        yield proxy


@pytest.fixture
async def far_lab(proxy: Proxy, unique_namespace: str) -> AsyncIterator[Lab]:
    """A laboratory on the other side of the proxy."""
    lab = Lab.at(proxy.url, unique_namespace)
    yield lab
    await lab.close()


@pytest.fixture(params=["fake", *KINDS])
def kit(request: pytest.FixtureRequest, redis_server: Servers) -> Kit:
    """Harnesses on a virtual clock. The test runs on the fake server and on each kind of real one."""
    return partial(harness, redis=None if request.param == "fake" else redis_server(request.param).url)
