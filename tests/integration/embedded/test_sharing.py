"""One server for all processes of a folder, never two, and none when the last has left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from flowq.broker.embedded.server import EmbeddedRedis
from tests.integration.embedded.users import (
    FORKING_USER,
    LEAKING_USER,
    RELEASING_CHILD_USER,
    StartUser,
    alive,
    client,
    lock_is_free,
)
from tests.integration.flowq_process import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")


class TestSharing:
    def test_a_second_process_attaches_instead_of_starting_a_server(self, start_user: StartUser) -> None:
        first, second = start_user(), start_user()
        (url_1, pid_1, attached_1), (url_2, pid_2, attached_2) = first.server(), second.server()
        assert (url_1, pid_1) == (url_2, pid_2)
        assert sorted([attached_1, attached_2]) == [False, True]

    def test_the_server_outlives_the_process_that_started_it(self, start_user: StartUser) -> None:
        first = start_user()
        url, pid, _ = first.server()
        second = start_user()
        second.server()
        client(url).set("key", "written by the first")
        first.leave()
        assert client(url).get("key") == "written by the first"
        second.leave()
        wait_until(lambda: not alive(pid))

    def test_eight_processes_that_start_at_once_end_up_on_one_server(self, start_user: StartUser) -> None:
        users = [start_user() for _ in range(8)]
        servers = [user.server() for user in users]
        assert len({pid for _, pid, _ in servers}) == 1
        assert [attached for _, _, attached in servers].count(False) == 1
        assert client(servers[0][0]).ping()

    def test_who_attaches_needs_no_server_program(
        self, start_user: StartUser, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_user().server()
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", "/nonexistent")
        with EmbeddedRedis.acquire(folder) as server:
            assert server.attached

    def test_two_spellings_of_a_folder_are_one_folder(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "alias").symlink_to(folder)
        with EmbeddedRedis.acquire(folder) as one, EmbeddedRedis.acquire(tmp_path / "alias") as two:
            assert one.url == two.url

    def test_one_of_two_holds_in_a_process_keeps_the_server(self, folder: Path) -> None:
        first = EmbeddedRedis.acquire(folder)
        with EmbeddedRedis.acquire(folder) as second:
            first.release()
            first.release()
            assert client(second.url).ping()
        wait_until(lambda: not alive(first.pid))


class TestLeaving:
    def test_the_last_one_out_stops_the_server_the_next_finds_the_data(self, folder: Path, binary: str) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).xadd("stream", {"field": "value"})
            assert server.binary == binary
        wait_until(lambda: not alive(server.pid))
        assert not (folder / "redis.sock").exists()
        with EmbeddedRedis.acquire(folder) as later:
            assert [fields for _, fields in client(later.url).xrange("stream")] == [{"field": "value"}]
            assert later.pid != server.pid
            assert not later.attached

    def test_who_arrives_while_the_last_one_leaves_gets_a_server_that_stays(self, folder: Path) -> None:
        held = EmbeddedRedis.acquire(folder)
        for round_number in range(1, 11):
            held.release()
            held = EmbeddedRedis.acquire(folder)
            assert client(held.url).incr("rounds") == round_number
        held.release()

    @pytest.mark.parametrize("script", [LEAKING_USER, FORKING_USER])
    def test_a_child_outliving_its_parent_keeps_no_server(self, start_user: StartUser, script: str) -> None:
        user = start_user(script)
        child_pid, server_pid = map(int, user.line().split())
        try:
            user.leave()
            wait_until(lambda: not alive(server_pid))
            assert alive(child_pid)
        finally:
            os.kill(child_pid, signal.SIGKILL)

    def test_release_in_a_forked_child_leaves_the_hold_of_the_parent(self, start_user: StartUser, folder: Path) -> None:
        child_pid = int(start_user(RELEASING_CHILD_USER).line().split()[0])
        os.kill(child_pid, signal.SIGKILL)
        assert not lock_is_free(folder / "users.lock")
