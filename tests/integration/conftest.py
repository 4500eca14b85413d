"""The project of a user in which most of these tests run their commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.integration.flowq_process import Project


@pytest.fixture
def project(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Servers, unique_namespace: str
) -> Iterator[Project]:
    """A folder with the pipelines and variables of the marker `project(pipelines, redis=kind, **variables)`.

    `redis` is the kind of a shared server; without it, commands use the Redis that flowq starts for a folder.
    """
    marker = request.node.get_closest_marker("project")
    (pipelines,), variables = marker.args, dict(marker.kwargs)
    if kind := variables.pop("redis", None):
        variables |= {"FLOWQ_REDIS_URL": redis_server(kind).url, "FLOWQ_NAMESPACE": unique_namespace}
    with Project(tmp_path, **variables) as project:
        for name, text in pipelines.items():
            project.write(name, text)
        yield project
