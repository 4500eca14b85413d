"""The wheel, built once, and clean environments with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.packaging.environments import OWN_VERSION, CannotInstall, Environment, build, interpreter
from tests.requirements import unavailable

Installed = Callable[..., Environment]

PIPELINE = """
from collections.abc import Iterator
from flowq import Pipeline, source, stage

@source
def numbers() -> Iterator[int]: yield from range(3)

@stage
def show(n: int) -> None: print("got", n, flush=True)

shop = Pipeline("shop", numbers >> show)
"""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source archive and the wheel."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Installed:
    """Make an environment with some extras. Without the packages of another Python, the test is skipped."""

    def make(*extras: str, version: str = OWN_VERSION) -> Environment:
        python = interpreter(version)
        if python is None:
            pytest.skip(f"Python {version} is not on this machine")
        try:
            return Environment.make(tmp_path / "environment", python, wheel, *extras)
        except CannotInstall as error:
            if version != OWN_VERSION:
                pytest.skip(f"the packages for Python {version} cannot be installed here")
            unavailable(f"packages cannot be installed: {error}", "it needs the cache of uv, or an index")

    return make


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a small pipeline."""
    folder = tmp_path / "shop"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "pipelines" / "shop.py").write_text(PIPELINE)
    return folder


@pytest.fixture
def redis(redis_server: Servers, unique_namespace: str) -> dict[str, str]:
    """The variables that name a Redis which is there already."""
    return {"FLOWQ_REDIS_URL": redis_server("bundled").url, "FLOWQ_NAMESPACE": unique_namespace}
