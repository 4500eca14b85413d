"""The data folder belongs to one user: one that others may change is refused, and only this user reaches the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from flowq.broker.client.redis_url import redact
from flowq.broker.embedded.server import EmbeddedRedis
from flowq.errors import BrokerUnavailable
from tests.integration.embedded.users import StartUser, UserProcess, alive, client, executable
from tests.integration.flowq_process import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")

FILES = ["redis.log", "redis.password", "redis.conf", "users.lock", "server.lock"]
NO_PASSWORD = """#!/bin/sh
shift  # the configuration file, with the password in it: as an earlier flowq started its server
exec redis-server "$@"
"""


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)

    with pytest.raises(BrokerUnavailable, match="is writable by other users") as caught:
        EmbeddedRedis.acquire(folder)

    assert "chmod go-w" in caught.value.hint
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 12345, -1)

    with pytest.raises(BrokerUnavailable, match="belongs to another user"):
        EmbeddedRedis.acquire(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_the_place_of_a_file_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    aim = tmp_path / "aim"
    aim.write_text("theirs")
    (folder / name).symlink_to(aim)

    with pytest.raises(BrokerUnavailable, match="cannot keep Redis data"):
        EmbeddedRedis.acquire(folder)

    assert aim.read_text() == "theirs"


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_does_not_block(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / name)

    with pytest.raises(BrokerUnavailable, match="cannot keep Redis data"):
        EmbeddedRedis.acquire(folder)


@pytest.mark.usefixtures("binary")
def test_who_does_not_know_the_password_is_not_let_in(folder: Path) -> None:
    with EmbeddedRedis.acquire(folder) as server:
        stranger = redis.Redis(unix_socket_path=str(folder / "redis.sock"))
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()

        assert client(server.url).ping()
        assert {name: mode_of(folder / name) for name in FILES} == dict.fromkeys(FILES, 0o600)


def test_files_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        with EmbeddedRedis.acquire(folder):
            assert {name: mode_of(folder / name) for name in FILES} == dict.fromkeys(FILES, 0o600)
            assert mode_of(folder) == 0o700
    finally:
        os.umask(before)


def test_the_password_stands_in_its_file_alone(folder: Path, start_user: StartUser) -> None:
    user: UserProcess = start_user()
    url, pid, _ = user.server()
    password = (folder / "redis.password").read_text().strip()

    assert urlsplit(url).password == password
    assert password not in redact(url)
    for process in (pid, user.process.pid):
        assert password.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert password.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert password not in (folder / "redis.log").read_text()


def test_the_password_stays_the_same_from_one_server_to_the_next(folder: Path) -> None:
    with EmbeddedRedis.acquire(folder) as server:
        url = server.url
    wait_until(lambda: not alive(server.pid))

    with EmbeddedRedis.acquire(folder) as server:
        assert server.url == url


@pytest.mark.parametrize("content", ["", "short", "0" * 63 + "\n", 'x"\nport 6379\n'])
def test_a_password_that_was_not_written_in_whole_is_made_anew(folder: Path, content: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / "redis.password").write_text(content)

    with EmbeddedRedis.acquire(folder) as server:
        assert len(urlsplit(server.url).password or "") == 64


def test_a_server_of_an_earlier_version_is_used_until_its_last_user_has_gone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", executable(tmp_path / "as-before", NO_PASSWORD))
    with EmbeddedRedis.acquire(folder) as old:
        assert client(old.url).set("key", "value")
        (folder / "redis.password").unlink()
        with EmbeddedRedis.acquire(folder) as attached:
            assert client(attached.url).get("key") == "value"
    wait_until(lambda: not alive(old.pid))
    monkeypatch.delenv("FLOWQ_REDIS_SERVER")

    with EmbeddedRedis.acquire(folder) as server:
        assert urlsplit(server.url).password
        assert client(server.url).get("key") == "value"
