"""Signals, kills and forks: the server outlives what it must and is never orphaned."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from flowq.broker.embedded.server import EmbeddedRedis
from tests.integration.embedded.users import (
    DRAINING_USER,
    StartUser,
    alive,
    answers,
    client,
    parent_of,
    status_field,
)
from tests.integration.flowq_process import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and parent death signals")


class TestSignals:
    def test_ctrl_c_does_not_reach_the_server_before_its_user_is_done(self, start_user: StartUser) -> None:
        user = start_user(DRAINING_USER, new_group=True)
        assert user.line() == "ready\n"
        os.killpg(user.process.pid, signal.SIGINT)
        os.killpg(user.process.pid, signal.SIGINT)
        assert user.process.stdin
        user.process.stdin.write("\n")
        user.process.stdin.flush()
        interrupted, written = map(int, user.line().split())
        assert interrupted >= 1
        assert written == 30
        assert user.process.wait(60) == 0

    @linux_only
    def test_a_signal_to_every_process_does_not_stop_the_server_first(self, folder: Path, binary: str) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            for pid in (parent_of(server.pid), server.pid):
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGHUP)
            blocked = int(status_field(server.pid, "SigBlk"), 16)
            assert blocked & (1 << (signal.SIGTERM - 1))
            assert client(server.url).ping()
        wait_until(lambda: not alive(server.pid))

    def test_kill_9_of_all_users_leaves_no_server_and_all_data(self, start_user: StartUser, folder: Path) -> None:
        users = [start_user(), start_user()]
        url, pid, _ = users[0].server()
        users[1].server()
        client(url).set("key", "kept")
        for user in users:
            user.kill()
        wait_until(lambda: not alive(pid))
        with EmbeddedRedis.acquire(folder) as server:
            assert client(server.url).get("key") == "kept"

    @linux_only
    def test_kill_9_of_users_and_watchdog_leaves_no_server_and_a_folder_usable_at_once(
        self, start_user: StartUser, folder: Path, binary: str
    ) -> None:
        user = start_user()
        url, pid, _ = user.server()
        client(url).set("key", "kept")
        watchdog_pid = parent_of(pid)
        os.kill(watchdog_pid, signal.SIGKILL)
        user.kill()
        wait_until(lambda: not alive(watchdog_pid))
        with EmbeddedRedis.acquire(folder) as server:
            assert server.pid != pid
            assert client(server.url).get("key") == "kept"
            assert not alive(pid)

    @linux_only
    def test_kill_9_of_everything_leaves_a_harmless_socket(self, start_user: StartUser, folder: Path) -> None:
        user = start_user()
        url, pid, _ = user.server()
        client(url).set("key", "kept")
        for victim in (parent_of(pid), pid, user.process.pid):
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        assert (folder / "redis.sock").exists()
        with EmbeddedRedis.acquire(folder) as server:
            assert client(server.url).get("key") == "kept"

    @linux_only
    def test_a_server_that_leaves_late_takes_no_socket_from_the_next_in_a_folder_made_again(self, folder: Path) -> None:
        with EmbeddedRedis.acquire(folder) as leaving:
            os.kill(leaving.pid, signal.SIGSTOP)
        folder.rename(folder.with_name("removed"))
        with EmbeddedRedis.acquire(folder) as server:
            os.kill(leaving.pid, signal.SIGCONT)
            wait_until(lambda: not alive(leaving.pid))
            assert client(server.url).ping()

    @linux_only
    def test_a_server_that_hangs_is_killed_when_its_last_user_leaves(self, folder: Path) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            os.kill(server.pid, signal.SIGSTOP)
        wait_until(lambda: not alive(server.pid))


class TestAServerThatDiesUnderItsUsers:
    def test_it_restarts_at_the_same_url_with_its_data(self, folder: Path, binary: str) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).set("key", "kept")
            wait_until(lambda: client(server.url).info("server")["uptime_in_seconds"] >= 2)
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: answers(server.url) and client(server.url).get("key") == "kept")
            again = client(server.url).info("server")["process_id"]
            assert again != server.pid
        wait_until(lambda: not alive(again))

    def test_one_shut_down_by_hand_is_started_by_the_next_to_acquire(self, folder: Path) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).set("key", "kept")
            client(server.url).shutdown()
            with EmbeddedRedis.acquire(folder) as again:
                assert not again.attached
                assert client(server.url).get("key") == "kept"
