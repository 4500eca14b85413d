"""A folder for the embedded Redis, processes that use it, and each server program that is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.embedded.users import USER, UserProcess, installed_binaries, lock_is_free
from tests.integration.flowq_process import wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder not yet made. After the test no server may be left: its lock must become free."""
    with tempfile.TemporaryDirectory(prefix="flowq-test-") as root:  # tmp_path has no room for a socket
        yield Path(root).resolve() / ".flowq"
        for lock_file in Path(root).rglob("server.lock"):
            wait_until(partial(lock_is_free, lock_file))


@pytest.fixture
def short_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fq") as root:
        monkeypatch.setattr(tempfile, "tempdir", root)
        yield Path(root)


@pytest.fixture
def start_user(folder: Path) -> Iterator[Callable[..., UserProcess]]:
    users: list[UserProcess] = []

    def start(script: str = USER, *, new_group: bool = False) -> UserProcess:
        users.append(UserProcess(folder, script, new_group=new_group))
        return users[-1]

    yield start
    for user in users:
        user.close()


@pytest.fixture(params=installed_binaries())
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    binary: str = request.param
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", binary)
    return binary
